// A second pane: another photograph, or the same with other settings, beside the first; what is shown, and the patch
// that is pointed at, are those of both.

import { make, say } from "../../lab/static/elements.js";
import { change, settingsOf, sideOf } from "./app.js";
import { largest, percent } from "./measures.js";
import { cellUnder, pick } from "./pointing.js";
import { buildFigure, labelPicture, paintPicture } from "./view.js";
import { labelOf, told } from "./words.js";

/** The patch of another grid that lies where the middle of this one lies. */
export function cellThere(cell, side, other) {
  if (cell < 0) return -1;
  const [row, col] = [Math.floor(cell / side), cell % side];
  const place = (at) => Math.min(other - 1, Math.floor(((at + 0.5) * other) / side));
  return place(row) * other + place(col);
}

/** The app as the second pane has it: runs, settings and places of its own, all else that of the first. */
function paneOf(app) {
  const { ui, beside, state, cell } = app;
  const side = Math.floor(app.about.form.side / beside.settings.patch);
  const there = (one) => cellThere(one, sideOf(app), side);
  const pane = Object.create(app);
  return Object.assign(pane, {
    ui: ui.beside,
    state: { ...state, ...beside.settings, query: there(state.query) },
    run: beside.run,
    base: beside.base,
    cell: there(cell),
    marks: null,
    small: ui.beside.small,
  });
}

/** What a pane was run with, and what it says, in a sentence. */
function paneWords(app, settings, run) {
  const { patch, scale, off, keep, removed } = settings;
  const sample = app.about.samples.find((one) => one.name === settings.photo);
  const mean = scale.reduce((a, b) => a + b, 0) / scale.length;
  const parts = [sample?.title ?? told(app, "ownShort"), `${patch} px`];
  if (scale.some((one) => one !== 1)) parts.push(`${told(app, "scale")} × ${mean.toFixed(1)}`);
  if (keep < 1) parts.push(`${told(app, "keep")} ${Math.round(100 * keep)} %`);
  if (off.length) parts.push(told(app, "headsOut", { count: off.length }));
  if (removed.length) parts.push(told(app, "gameCount", { count: removed.length }));
  const top = largest(run.shares);
  const says = told(app, "says", { label: labelOf(app, top), share: percent(run.shares[top]) });
  return `${parts.join(", ")}. ${says}`;
}

function paintBeside(app) {
  const { ui, beside, state } = app;
  const shown = Boolean(beside?.run && app.run && state.other) && state.mode === "free";
  ui.panes.classList.toggle("two", shown);
  ui.beside.figure.hidden = ui.besideWords.hidden = ui.hereWords.hidden = !shown;
  ui.swap.hidden = !state.other;
  say(ui.compare, told(app, state.other ? "compareOff" : "compare"));
  say(ui.swap, told(app, "swap"));
  if (!shown) return;
  say(ui.hereWords, `A: ${paneWords(app, state, app.run)}`);
  say(ui.besideWords, `B: ${paneWords(app, beside.settings, beside.run)}`);
  const pane = paneOf(app);
  paintPicture(pane);
  labelPicture(pane);
}

/** Both panes change places, so that the other one's settings are those of the sliders. */
function swap(app) {
  const other = settingsOf(app.state);
  const { photo, patch, ...rest } = app.state.other;
  change(app, { photo, patch, other });
  change(app, rest);
}

/** Around the picture: both panes, and the buttons that compare. -> [panes, buttons] */
export function buildBeside(app, picture) {
  const { ui } = app;
  ui.beside = { small: make("canvas") };
  buildFigure(app, ui.beside, { role: "img" });
  const point = (cell) => {
    if (cell === app.cell) return;
    app.cell = cell;
    app.pointed();
  };
  const { canvas } = ui.beside;
  const under = (event) => {
    const side = Math.floor(app.about.form.side / app.beside.settings.patch);
    return cellThere(cellUnder(paneOf(app), canvas, event), side, sideOf(app));
  };
  canvas.addEventListener("pointermove", (event) => point(under(event)));
  canvas.addEventListener("pointerleave", () => point(-1));
  canvas.addEventListener("click", (event) => app.tool === "look" && pick(app, under(event)));
  [ui.hereWords, ui.besideWords] = [make("p", { className: "pane" }), make("p", { className: "pane" })];
  ui.panes = make(
    "div",
    { className: "panes" },
    make("div", {}, ui.hereWords, picture),
    make("div", {}, ui.besideWords, ui.beside.figure),
  );
  ui.compare = make("button", {
    type: "button",
    onclick: () => change(app, { other: app.state.other ? null : settingsOf(app.state) }),
  });
  ui.swap = make("button", { type: "button", onclick: () => swap(app) });
  const first = app.pointed;
  app.pointed = () => {
    first();
    paintBeside(app);
  };
  app.painters.push(paintBeside);
  return [ui.panes, make("p", { className: "row" }, ui.compare, ui.swap)];
}
