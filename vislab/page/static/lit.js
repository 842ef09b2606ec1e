// The diagram of the model: lit where the control in hand acts, and in guided steps where the step is.

import { arrangeDiagram, lightParts, putDiagram } from "../../lab/static/diagram.js";
import { make } from "../../lab/static/elements.js";
import { draw } from "./app.js";
import { STEPS } from "./guided.js";
import { told } from "./words.js";

/** Selector of what is on the page -> the parts of the model that it is about. */
export const ACTS = {
  '[data-control="patchSize"]': ["patches"],
  '[data-control="scale"]': ["qk"],
  '[data-control="layer"]': ["layer"],
  '[data-control="head"]': ["head"],
  '[data-control="keep"]': ["tokens"],
  ".photos": ["pixels"],
  ".picture canvas": ["tokens"],
  ".heads": ["layer", "head"],
  ".layers": ["layer", "cls"],
  ".game": ["patches"],
  ".answer": ["class"],
};
const VIEW = '[data-control="view"]';
export const VIEWED = {
  attention: ["softmax"],
  rollout: ["layer", "softmax"],
  lens: ["layer", "class"],
  photo: ["pixels"],
};
const STEPPED = {
  photo: ["pixels"],
  patches: ["patches"],
  positions: ["tokens"],
  products: ["qk", "softmax"],
  heads: ["head"],
  layers: ["layer"],
  lens: ["layer", "cls"],
  decision: ["cls", "class"],
  unknown: ["class"],
};

/** The parts that a guided step is about. */
export const partsOfStep = (step) => STEPPED[STEPS[step].name];

/** What is about the model and nearest around an element: its selector; none: null. */
function actingOn(node) {
  const places = [VIEW, ...Object.keys(ACTS)];
  const place = node.closest(places.join(", "));
  return place && places.find((selector) => place.matches(selector));
}

export function buildDiagram(app) {
  const node = make("div", { className: "diagram" });
  putDiagram(node, app.about.diagram);
  const act = ({ target, buttons }) => {
    const acting = buttons ? null : actingOn(target);
    if (!acting || acting === app.acting) return;
    app.acting = acting;
    draw(app);
  };
  for (const event of ["pointerover", "focusin"]) app.element.addEventListener(event, act);
  app.painters.push(() => paintDiagram(app, node));
  return node;
}

function paintDiagram(app, node) {
  const { mode, step, view } = app.state;
  node.hidden = mode === "quiz"; // it would tell answers
  const acting = app.acting === VIEW ? VIEWED[view] : (ACTS[app.acting] ?? []);
  const parts = mode === "guided" ? partsOfStep(step) : acting;
  lightParts(node, parts, told(app, "diagram"), (part) => told(app, `part_${part}`));
  arrangeDiagram(node);
}
