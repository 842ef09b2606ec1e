// Sliders and menus for what the model is asked.

import { make, say } from "../../lab/static/elements.js";
import { VIEWS } from "./address.js";
import { cellsOf, change } from "./app.js";
import { goingOf } from "./measures.js";
import { told } from "./words.js";

/** A slider with its name and its value in words. read: state -> number, write: number -> fields of the state. */
function slider(app, name, options, read, write, words, layer) {
  const input = make("input", { type: "range", ...options });
  const [label, value] = [make("span", { className: "name" }), make("output", { className: "number" })];
  input.addEventListener("input", () => change(app, write(+input.value)));
  app.painters.push(() => {
    say(label, told(app, name));
    if (document.activeElement !== input || +input.value !== read()) input.value = read();
    say(value, words(read()));
    input.setAttribute(
      "aria-label",
      layer ? `${told(app, "scale")}, ${told(app, "layerN", { layer })}` : told(app, name),
    );
    input.setAttribute("aria-valuetext", value.textContent);
  });
  return make("label", { className: "slider", "data-control": name }, label, input, value);
}

/** A slider with what its ends are. */
function withEnds(app, control, low, high) {
  const [left, right] = [make("span"), make("span")];
  control.append(make("span", { className: "ends quiet" }, left, right));
  app.painters.push(() => {
    say(left, told(app, low));
    say(right, told(app, high));
  });
  return control;
}

/** A slider with a sentence under it, "" where there is none to say. */
function withHint(app, control, words) {
  const hint = make("span", { className: "hint quiet" });
  hint.setAttribute("aria-live", "polite");
  control.append(hint);
  app.painters.push(() => say(hint, words()));
  return control;
}

/** A control that is there only where it changes what is seen. */
function shownIn(app, views, control) {
  app.painters.push(() => {
    control.hidden = !views.includes(app.state.view);
  });
  return control;
}

/** Buttons of which one is pressed. */
function choices(app, name, values, read, write, words) {
  const legend = make("span", { className: "name" });
  const buttons = values.map((value) => make("button", { type: "button", onclick: () => change(app, write(value)) }));
  app.painters.push(() => {
    say(legend, told(app, name));
    buttons.forEach((button, i) => {
      say(button, words(values[i]));
      button.setAttribute("aria-pressed", values[i] === read());
    });
  });
  const group = make("div", { className: "row", role: "group" }, ...buttons);
  app.painters.push(() => group.setAttribute("aria-label", legend.textContent));
  return make("div", { className: "choices", "data-control": name }, legend, group);
}

/** The attention scale of all layers, and behind a fold that of each. */
function buildScales(app) {
  const { layers } = app.about.form;
  const options = { min: 0, max: 3, step: 0.1 };
  const mean = () => app.state.scale.reduce((a, b) => a + b, 0) / layers;
  const all = (v) => ({ scale: new Array(layers).fill(Math.round(v * 10) / 10) });
  const each = Array.from({ length: layers }, (_, layer) =>
    slider(
      app,
      "layer",
      options,
      () => app.state.scale[layer],
      (v) => ({ scale: app.state.scale.map((old, i) => (i === layer ? v : old)) }),
      (v) => `${layer + 1}: × ${v.toFixed(1)}`,
      layer + 1,
    ),
  );
  const summary = make("summary");
  app.painters.push(() => say(summary, told(app, "scaleEach")));
  const whole = slider(app, "scale", options, mean, all, (v) => `× ${v.toFixed(1)}`);
  return [whole, make("details", {}, summary, ...each)];
}

/** To the right patches are smaller, and there are more of them. */
function buildPatchSize(app) {
  const patches = Object.keys(app.about.form.sizes)
    .map(Number)
    .sort((a, b) => b - a);
  const control = slider(
    app,
    "patchSize",
    { min: 0, max: patches.length - 1, step: 1 },
    () => patches.indexOf(app.state.patch),
    (v) => ({ patch: patches[v] }),
    (v) => told(app, "patchValue", { patch: patches[v], count: cellsOf(app, patches[v]) }),
  );
  const back = () => (app.back ? told(app, "patchesBack", { count: app.back }) : "");
  return withHint(app, withEnds(app, control, "fewerTokens", "moreTokens"), back);
}

function buildKeep(app) {
  const { state } = app;
  const control = slider(
    app,
    "keep",
    { min: 5, max: 100, step: 5 },
    () => Math.round(100 * state.keep),
    (v) => ({ keep: v / 100 }),
    (v) => `${v} %`,
  );
  return withHint(app, control, () => {
    const count = cellsOf(app);
    const gone = goingOf(count, state.keep);
    return told(app, gone ? "keepSome" : "keepAll", { count, gone });
  });
}

function buildReset(app) {
  const { layers, patch } = app.about.form;
  const first = { keep: 1, off: [], removed: [], patch, query: -1, head: "mean", layer: layers - 1 };
  const all = () => change(app, { ...first, scale: new Array(layers).fill(1) });
  const reset = make("button", { type: "button", onclick: all });
  app.painters.push(() => say(reset, told(app, "reset")));
  return reset;
}

const WORDS = ["patch", "token", "cls", "attention", "layer", "head", "rollout", "lens", "scale", "keep"];

/** The way to the guided steps, for who opens the page without knowing. */
export function buildWelcome(app) {
  const welcome = make("button", { type: "button", onclick: () => change(app, { mode: "guided" }) });
  const row = make("p", { className: "row" }, welcome);
  app.painters.push(() => {
    say(welcome, told(app, "welcome"));
    row.hidden = app.state.mode !== "free";
  });
  return row;
}

/** What the words of this page mean, behind a fold. */
export function buildWords(app) {
  const summary = make("summary");
  const items = WORDS.map(() => make("li"));
  app.painters.push(() => {
    say(summary, told(app, "words"));
    items.forEach((item, i) => {
      say(item, told(app, `word_${WORDS[i]}`));
    });
  });
  return make("details", { className: "words" }, summary, make("ul", {}, ...items));
}

export function buildControls(app) {
  const { state, about } = app;
  const { layers, heads } = about.form;
  const headWords = (value) => (value === "mean" ? told(app, "mean") : String(value + 1));
  const layer = slider(
    app,
    "layer",
    { min: 1, max: layers, step: 1 },
    () => state.layer + 1,
    (v) => ({ layer: v - 1 }),
    String,
  );
  const head = choices(
    app,
    "head",
    ["mean", ...Array.from({ length: heads }, (_, i) => i)],
    () => state.head,
    (value) => ({ head: value }),
    headWords,
  );
  return make(
    "section",
    { className: "controls" },
    choices(
      app,
      "view",
      VIEWS,
      () => state.view,
      (view) => ({ view }),
      (view) => told(app, `view_${view}`),
    ),
    shownIn(app, ["attention", "lens"], layer),
    shownIn(app, ["attention"], head),
    buildPatchSize(app),
    ...buildScales(app),
    buildKeep(app),
    make("p", { className: "row" }, buildReset(app)),
  );
}
