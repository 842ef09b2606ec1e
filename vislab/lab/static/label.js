// What stands beside the pictures in words and numbers: status, problems, measures, classes.

import { showActing } from "./acting.js";
import { methodWords, wordMethod } from "./asking.js";
import { showAtlas } from "./atlas.js";
import { showTokens } from "./costs.js";
import { make, say } from "./elements.js";
import { codeOf } from "./files.js";
import { goneNow } from "./gone.js";
import { defined } from "./help.js";
import { showLens } from "./lens.js";
import { showMarks } from "./marks.js";
import { showMethods } from "./methods.js";
import { showPrompt } from "./prompt.js";
import { showRemoval } from "./removal.js";
import { commit, layerIndex, methodName, now, same, statusOf, withoutChoice } from "./settings.js";
import { change } from "./words.js";

/** Write everything but the pictures. controls: as `bindControls` made them. */
export function label(store, ui, controls) {
  const { about, closer, panes, unfolded } = store.state;
  const { shown } = panes[0];
  const { state, words } = statusOf(store);
  const working = { ready: "ready", computing: "computing", error: "" }[state];
  ui.status.dataset.state = state;
  say(ui.status, [working, words].filter(Boolean).join(" · "));
  if (!about) return;
  for (const control of controls) control.show(now(store, control.name), shown);
  const blind = now(store, "detector") === null;
  ui.whole.disabled = ui.farther.disabled = store.state.zoom === 1;
  ui.undo.disabled = store.state.past.length === 0;
  ui.redo.disabled = store.state.future.length === 0;
  showNote(store, ui);
  showProblem(store, ui);
  showFused(store, ui);
  ui.unpin.disabled = now(store, "query") === "cls";
  ui.minimum.parentNode.hidden = blind;
  ui.two_stage.parentNode.hidden = store.page ? !closer : blind;
  if (store.page) showBack(store, ui);
  showActing(store, ui);
  showPrompt(store, ui);
  showMarks(store, ui);
  showRemoval(store, ui);
  if (!shown) return;
  ui.call.textContent = codeOf(store);
  if (shown.model.reads) return;
  showTokens(store, ui, shown);
  showMeasures(store, ui, shown);
  showPrediction(store, ui, shown);
  if (unfolded.atlas) showAtlas(store, ui, shown);
  if (unfolded.lens) showLens(store, ui, shown);
  if (unfolded.every) showMethods(store, ui, shown);
}

const NODES = {
  attention_scale: "scale",
  confidence: "minimum",
  compare: "what",
  deletion: "take",
  insertion: "take",
  export: "copy",
  fovea: "drawFovea",
  heads_off: "allOn",
  points: "mark",
  outside: "mark",
  boxes: "mark",
  prompt: "promptRow",
};

/** What went wrong, below what was used last: where that is beside the status line, or shown by none, there alone. */
function showProblem(store, { problem, ...ui }) {
  const { alone, asked, presenting } = store.state;
  const { state, words } = statusOf(store);
  const node = ui[NODES[asked] ?? asked];
  const told = state === "error" && !alone && (presenting || (node && !node.closest(".top")));
  problem.hidden = !told;
  if (!told) return;
  const place = presenting || !node?.getClientRects().length ? ui.caption : (node.closest("label, .row") ?? node);
  if (place.nextElementSibling !== problem) place.after(problem);
  say(problem, words);
}

/** What a change brought with it, and the ways from there. */
function showNote(store, { note }) {
  const said = store.state.note;
  const key = JSON.stringify(said);
  if (note.dataset.key === key) return;
  note.dataset.key = key;
  note.replaceChildren(said?.words ?? "", ...ways(store, said?.ways ?? {}));
}

const WAY = "Sets that; undo takes it back.";

/** Buttons that set settings. ways: {words: settings}. */
const ways = (store, all) =>
  Object.entries(all).map(([textContent, settings]) =>
    make("button", { type: "button", textContent, title: WAY, onclick: () => commit(store, settings) }),
  );

/** Why layer or head cannot be chosen, and the way to where they can. */
function showFused(store, ui) {
  const without = withoutChoice(store);
  const method = now(store, "method");
  const key = String([method, without]);
  if (ui.fused.dataset.key === key) return;
  ui.fused.dataset.key = key;
  ui.fused.hidden = without.length === 0;
  if (ui.fused.hidden) return ui.fused.replaceChildren();
  const words = `${methodName(store, method)} has no single ${without.join(" or ")} to choose: `;
  const attends = store.state.about.methods.cls && store.state.panes[0].shown?.model.layers !== 0;
  ui.fused.replaceChildren(
    words,
    ...(attends ? ways(store, { [methodName(store, "cls")]: { method: wordMethod(store) } }) : []),
  );
}

/** Of a page: the way back to what was exported, and the methods where it holds some. */
function showBack(store, ui) {
  const { exported } = store.port;
  const settings = Object.fromEntries(Object.keys(exported).map((name) => [name, now(store, name)]));
  say(ui.back, `back to ${methodWords(store, exported.method)}`);
  ui.back.disabled = same(settings, exported, Object.keys(exported));
  ui.atlas.hidden = store.state.atlas === null;
  ui.allBack.hidden = store.state.removal === null;
  ui.every.hidden = Object.keys(store.state.maps).length === 0;
}

/** Sections that are shown while they are open; all methods are made while they are. */
export function bindFolds(store, ui) {
  for (const name of ["atlas", "every", "compare"]) {
    ui[name].addEventListener("toggle", () => {
      store.change({ unfolded: { ...store.state.unfolded, [name]: ui[name].open } });
    });
  }
  ui.every.addEventListener("toggle", () => {
    store.port.send({ kind: "methods", open: ui.every.open });
  });
}

function showMeasures(store, ui, shown) {
  const { settings, model, frame, run } = shown;
  const { plain } = store.state;
  if (!model.layers) return ui.measures.replaceChildren("This model has no attention that is one map over the image.");
  const known = plain?.run === run && plain.layer === settings.layer;
  ui.measures.classList.toggle("former", !known); // those of the run before fade until it is
  if (!known) return;
  if (store.page && now(store, "layer") !== settings.layer)
    return ui.measures.replaceChildren("not measured of this layer");
  const sameInput = String(frame.model) === String(model.size); // else pixels of one are not those of the other
  const head = now(store, "head");
  const of = (list) => (typeof head === "number" ? list.at(head) : list.reduce((a, b) => a + b) / list.length);
  const part = (name, digits, unit, comparable = true) => {
    const value = of(plain.own[name]);
    const by = comparable ? change(value, of(plain.measures[name]), digits, unit) : "";
    const words = make("span", { textContent: `${name} ${value.toFixed(digits)}${unit}` });
    const than = make("span", { className: "by", textContent: by });
    return [defined(words, name), by && " ", defined(than, "by")];
  };
  const layer = settings.layer === "mean" ? "mean of layers" : `layer ${layerIndex(shown, settings.layer)}`;
  const even = defined(
    make("span", { textContent: ` (spread evenly: ${plain.own.even[0].toFixed(0)} px)` }),
    "distance",
  );
  const parts = [...part("entropy", 1, " bits"), " · ", ...part("distance", 0, " px", sameInput), even];
  ui.measures.replaceChildren(`${layer}, patches' mean: `, ...parts);
}

function showPrediction(store, ui, { classes, model, run }) {
  const { plain } = store.state;
  const before = plain?.run === run ? plain.classes : {};
  const apart = model.scores === "independent" ? " Each percentage is for itself: they need not add up to 100." : "";
  const known = model.labels ? `Knows ${model.labels.length} classes only: ${model.labels.join(", ")}.${apart}` : apart;
  const numbers = classes.map(([name, value]) => `${name} ${value.toPrecision(4)}`).join(", ");
  const given = model.scores === "number" ? `Gives a number, no probability: ${numbers}` : known;
  const none =
    store.state.takes === "text"
      ? "This model names nothing by itself: write below the picture what it looks for."
      : "This model names nothing: it has no classifier.";
  ui.knows.textContent = classes.length === 0 ? none : given;
  const shown = model.scores === "number" ? [] : classes;
  const whole = goneNow(store)?.gone.some(Boolean); // while patches are gone it is not what the model says
  say(ui.predicted, whole ? "Prediction of the whole photograph" : "Prediction");
  ui.classes.classList.toggle("former", Boolean(whole));
  ui.classes.replaceChildren(...shown.map(([name, p]) => classLine(name, p, before[name])));
}

/** p, before: probabilities now and by the unmodified model, which may not have said. */
function classLine(name, p, before) {
  const bar = make("span", { className: "bar" }, make("span", { style: `width: ${100 * p}%` }));
  const percent = `${(100 * p).toFixed(p < 0.095 ? 1 : 0)} %`;
  const by = before === undefined ? "" : change(100 * p, 100 * before, 0);
  const words = make("span", { textContent: name.split(",")[0] });
  const spans = Object.entries({ percent, by }).map(([className, textContent]) =>
    make("span", { className, textContent }),
  );
  return make("li", { title: name }, words, bar, ...spans);
}
