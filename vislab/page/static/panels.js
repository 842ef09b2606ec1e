// Beside the picture: what the model says, layer by layer, and every head at a glance.

import { endsOf } from "../../lab/static/colours.js";
import { make, say } from "../../lab/static/elements.js";
import { change } from "./app.js";
import { clsTo, decidedAt, largest, onGrid, percent, ranked, softmax, sureAt } from "./measures.js";
import { classOf } from "./runs.js";
import { mapCanvas } from "./view.js";
import { labelOf, told } from "./words.js";

/** A row with a bar. share, before: 0 to 1, before only where it is another. */
export function barRow(words, share, before, strong) {
  const bar = make("span", { className: "fill" });
  bar.style.width = `${100 * share}%`;
  const track = make("span", { className: "track" }, bar);
  if (before !== undefined && Math.abs(before - share) > 0.0005) {
    const mark = make("span", { className: "mark" });
    mark.style.left = `${100 * before}%`;
    track.append(mark);
  }
  const row = make(
    "li",
    { className: strong ? "strong" : "" },
    make("span", { className: "name", textContent: words }),
    track,
  );
  row.append(make("span", { className: "number", textContent: percent(share) }));
  return row;
}

export function buildAnswer(app) {
  const { ui } = app;
  ui.answer = make("h2");
  ui.answer.setAttribute("aria-live", "polite");
  ui.shares = make("ol", { className: "bars" });
  ui.cost = make("p", { className: "quiet" });
  ui.toLayers = make("button", { type: "button", onclick: () => ui.layersTitle.scrollIntoView({ block: "start" }) });
  app.painters.push(paintAnswer);
  const row = make("p", { className: "row" }, ui.toLayers);
  return make("section", { className: "answer" }, ui.answer, ui.shares, ui.cost, row);
}

function paintAnswer(app) {
  const { run, base, ui } = app;
  say(ui.toLayers, told(app, "layersTitle"));
  ui.toLayers.hidden = app.state.mode !== "free"; // a guided step shows them in its own time
  if (!run) return;
  const order = ranked(run.shares);
  const top = order[0];
  const changed = top !== classOf(app);
  const words = { label: labelOf(app, top), share: percent(run.shares[top]), before: labelOf(app, classOf(app)) };
  say(ui.answer, told(app, changed ? "saysNow" : "says", words));
  const rows = order.slice(0, 5).map((i) => barRow(labelOf(app, i), run.shares[i], base.shares[i], i === top));
  ui.shares.replaceChildren(...rows);
  const cost = told(app, "cost", { tokens: run.tokens, ms: Math.round(run.ms) });
  const marked = rows.some((row) => row.querySelector(".mark"));
  say(ui.cost, marked ? told(app, "costMarked", { cost }) : cost);
}

export function buildLayers(app) {
  const { ui } = app;
  [ui.layersTitle, ui.decided] = [make("h3"), make("p")];
  ui.layers = make("ol", { className: "bars layers" });
  app.painters.push(paintLayers);
  return make("section", { className: "layers" }, ui.layersTitle, ui.decided, ui.layers);
}

/** What the head would say of CLS after each layer. */
function paintLayers(app) {
  const { run, ui, state } = app;
  if (!run) return;
  const target = largest(run.shares);
  const from = decidedAt(run.lens);
  say(ui.layersTitle, told(app, "layersTitle"));
  const sure = sureAt(run.lens);
  const words = [told(app, from ? "decidedAfter" : "decidedBefore", { layer: from, label: labelOf(app, target) })];
  if (sure > from) words.push(told(app, "decidedSure", { layer: sure }));
  say(ui.decided, words.join(" "));
  const rows = run.lens.map((logits, layer) => {
    const shares = softmax(logits);
    const top = largest(shares);
    const name = layer
      ? told(app, "layerSays", { layer, label: labelOf(app, top) })
      : told(app, "embeddingSays", { label: labelOf(app, top) });
    const row = barRow(name, shares[target], undefined, layer >= from);
    if (layer === from) row.classList.add("decided");
    if (layer === state.layer + 1) row.setAttribute("aria-current", "true");
    return row;
  });
  ui.layers.replaceChildren(...rows);
}

export function buildHeads(app) {
  const { ui } = app;
  const { layers, heads } = app.about.form;
  [ui.headsTitle, ui.headsHint] = [make("h3"), make("p", { className: "quiet" })];
  ui.knock = make("input", { type: "checkbox" });
  ui.knockWords = make("span");
  ui.heads = make("div", { className: "atlas", role: "group" });
  ui.heads.style.gridTemplateColumns = `repeat(${layers}, minmax(0, 1fr))`;
  const numbers = Array.from({ length: layers }, (_, layer) =>
    make("span", { className: "quiet", textContent: layer + 1 }),
  );
  ui.cells = Array.from({ length: layers * heads }, (_, i) =>
    make(
      "button",
      { type: "button", onclick: () => headPicked(app, i % layers, Math.floor(i / layers)) },
      make("canvas"),
    ),
  );
  ui.heads.append(...numbers, ...ui.cells);
  const toggle = make("label", {}, ui.knock, ui.knockWords);
  app.painters.push(paintHeads);
  const seen = (now) => {
    ui.heads.seen = now;
    paintHeads(app);
  };
  new IntersectionObserver(([entry]) => seen(entry.isIntersecting)).observe(ui.heads);
  addEventListener("beforeprint", () => seen(true));
  return make("section", { className: "heads" }, ui.headsTitle, ui.headsHint, toggle, ui.heads);
}

function headPicked(app, layer, head) {
  const index = layer * app.about.form.heads + head;
  if (!app.ui.knock.checked) change(app, { layer, head, view: "attention" });
  else
    change(app, {
      off: app.state.off.includes(index) ? app.state.off.filter((one) => one !== index) : [...app.state.off, index],
    });
}

/** Attention of CLS in every head, each with colours of its own; its maps are drawn while they are on the screen. */
function paintHeads(app) {
  const { run, ui, state } = app;
  if (!run || ui.heads.closest("[hidden]")) return;
  say(ui.headsTitle, told(app, "headsTitle"));
  say(ui.headsHint, told(app, "headsHint"));
  say(ui.knockWords, told(app, "knock"));
  const { heads, layers } = app.about.form;
  ui.cells.forEach((button, i) => {
    const [layer, head] = [i % layers, Math.floor(i / layers)];
    const out = state.off.includes(layer * heads + head);
    button.setAttribute("aria-pressed", layer === state.layer && head === state.head);
    button.setAttribute("aria-label", told(app, out ? "headOut" : "headOf", { layer: layer + 1, head: head + 1 }));
    button.title = button.getAttribute("aria-label");
    button.classList.toggle("out", out);
    if (!ui.heads.seen || button.run === run) return;
    button.run = run;
    const values = clsTo(run, layer, head);
    const count = run.side ** 2;
    mapCanvas(onGrid(values, run.kept, count), run.side, app.table, endsOf([values], false), button.firstChild);
  });
}
