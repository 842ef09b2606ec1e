// Nine steps through the model, each one action, a prediction, and what happens to this photograph.

import { make, say } from "../../lab/static/elements.js";
import { change, draw } from "./app.js";
import { createCard, paintCard, turnTo } from "./card.js";
import { play } from "./scenes.js";
import { told } from "./words.js";

/**
 * name: of the fact that is asked for; view: what the picture shows until then, plain: without the edges of patches;
 * panels: what stands below afterwards.
 */
export const STEPS = [
  { name: "photo", view: "photo", plain: true },
  { name: "patches", view: "photo", sizes: [32, 16, 8] },
  { name: "positions", view: "photo" },
  { name: "products", view: "photo", pick: true },
  { name: "heads", view: "attention", panels: ["heads"] },
  { name: "layers", view: "attention" },
  { name: "lens", view: "photo", panels: ["layers"] },
  { name: "decision", view: "attention", panels: ["answer", "game"] },
  { name: "unknown", view: "photo" },
];

const isLast = (app) => app.state.step === STEPS.length - 1;

export function buildGuided(app) {
  const card = createCard(app, "step", (_, fact) => revealed(app, guide, fact));
  const guide = {
    card,
    at: -1,
    scene: make("canvas", { role: "img", hidden: true }),
    count: make("p", { className: "count" }),
  };
  guide.dots = make("div", { className: "dots" });
  guide.numbers = STEPS.map((_, step) =>
    make("button", { type: "button", textContent: step + 1, onclick: () => change(app, { step }) }),
  );
  guide.dots.append(...guide.numbers);
  guide.sizes = make("div", { className: "row" });
  guide.next = make("button", {
    type: "button",
    onclick: () => change(app, isLast(app) ? { mode: "quiz" } : { step: app.state.step + 1 }),
  });
  guide.back = make("button", {
    type: "button",
    onclick: () => change(app, { step: Math.max(0, app.state.step - 1) }),
  });
  const { nodes } = card;
  app.painters.push(() => paintGuided(app, guide));
  const moves = make("p", { className: "row" }, guide.back, guide.next);
  return make(
    "section",
    { className: "card" },
    guide.dots,
    guide.count,
    nodes.say,
    guide.sizes,
    nodes.ask,
    nodes.options,
    guide.scene,
    nodes.shown,
    moves,
  );
}

function revealed(app, guide, fact) {
  const { name, panels } = STEPS[app.state.step];
  app.panels = panels ?? [];
  guide.scene.hidden = false;
  if (fact.removed) change(app, { removed: fact.removed });
  setTimeout(() => guide.next.scrollIntoView({ block: "nearest" }), 100); // once the words stand there
  play(guide.scene, app, name, fact, () => guide.at === app.state.step && app.state.mode === "guided");
}

/** A step begins: the picture shows what it is about, and what was picked or taken away is back. */
function enter(app, guide) {
  const step = STEPS[app.state.step];
  guide.at = app.state.step;
  guide.scene.hidden = true;
  Object.assign(app, {
    panels: [],
    plain: Boolean(step.plain),
    picked: null,
    marks: null,
    tool: "look",
    picking: step.pick ? (cell) => pickPair(app, cell) : null,
  });
  turnTo(guide.card, step.name);
  const buttons = (step.sizes ?? []).filter((patch) => patch in app.about.form.sizes);
  guide.sizes.replaceChildren(
    ...buttons.map((patch) =>
      make("button", { type: "button", textContent: `${patch} px`, onclick: () => change(app, { patch }) }),
    ),
  );
  guide.sizes.hidden = !buttons.length;
  change(app, {
    view: step.view,
    head: "mean",
    layer: app.about.form.layers - 1,
    query: -1,
    keep: 1,
    removed: [],
    off: [],
    scale: app.state.scale.map(() => 1),
  });
}

function pickPair(app, cell) {
  app.picked = app.picked?.length === 1 ? [...app.picked, cell] : [cell];
  app.marks = app.picked;
  draw(app);
}

function paintGuided(app, guide) {
  if (app.state.mode !== "guided") {
    if (guide.at >= 0) Object.assign(app, { picking: null, marks: null, plain: false });
    guide.at = -1;
    return;
  }
  if (guide.at !== app.state.step) enter(app, guide);
  const { card } = guide;
  guide.numbers.forEach((button, i) => {
    button.setAttribute("aria-pressed", i === app.state.step);
    button.setAttribute("aria-label", told(app, "stepN", { step: i + 1 }));
  });
  say(
    guide.count,
    told(app, "stepOf", {
      step: app.state.step + 1,
      count: STEPS.length,
      name: told(app, `step_${STEPS[app.state.step].name}`),
    }),
  );
  say(guide.next, told(app, isLast(app) ? "toQuiz" : "next"));
  say(guide.back, told(app, "back"));
  guide.back.disabled = app.state.step === 0;
  paintCard(card);
  guide.scene.setAttribute("aria-label", card.nodes.shown.textContent);
  for (const button of guide.sizes.children)
    button.setAttribute("aria-pressed", button.textContent === `${app.state.patch} px`);
}
