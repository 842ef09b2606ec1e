import { make } from "../../lab/static/elements.js";
export const STEPS = [1];
export function buildGuided() {
  return make("section");
}
