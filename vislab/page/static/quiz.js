import { make } from "../../lab/static/elements.js";
export function buildQuiz() {
  return make("section");
}
