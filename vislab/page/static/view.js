// The photograph with its map: what is drawn on it, and what a patch says.

import { coloured, endsOf } from "../../lab/static/colours.js";
import { make, say } from "../../lab/static/elements.js";
import { gridLines, outline } from "../../lab/static/ink.js";
import { fuse } from "../../lab/static/numbers.js";
import { boxOf } from "../../lab/static/places.js";
import { cellsOf, sideOf } from "./app.js";
import { clsTo, largest, onGrid, percent, rowsAt, softmax } from "./measures.js";
import { classOf } from "./runs.js";
import { labelOf, told } from "./words.js";

/** The token of a patch in a run, -1 where it is not in. */
const tokenOf = (run, cell) => (cell < 0 ? 0 : run.kept ? run.kept.indexOf(cell) + 1 || -1 : cell + 1);

/** Whether a patch has no token in the run that is shown: it was taken away, or not kept, and so attends to nothing. */
export const isGone = ({ run }, cell) => Boolean(run?.kept) && tokenOf(run, cell) < 0;

/** The patch whose attention is shown: the one under the pointer, else the one that was picked; -1 for CLS. */
export function queryOf(app) {
  if (app.tool === "look" && app.cell >= 0 && !isGone(app, app.cell)) return app.cell;
  return isGone(app, app.state.query) ? -1 : app.state.query;
}

/** A value for each patch that is in, and what kind it is; null where the photograph alone is shown. */
export function mapOf(app, query = queryOf(app)) {
  const { run, state } = app;
  if (!run || state.view === "photo") return null;
  if (state.view === "rollout") return run.rollout.subarray(1);
  if (state.view === "lens") {
    const { classes, at } = run;
    const token = (i) => softmax(at.every.subarray(i * classes, (i + 1) * classes));
    return Float32Array.from({ length: run.tokens - 1 }, (_, i) => token(i + 1)[classOf(app)]);
  }
  const token = tokenOf(run, query);
  return token < 0
    ? clsTo(run, state.layer, state.head)
    : fuse(rowsAt(run, state.layer, token), run.heads, run.tokens, state.head).subarray(1);
}

/** From the canvas to the grid: the whole photograph is stretched to the model's square. */
export function placeOn(canvas, app) {
  const { side } = app.about.form;
  const count = sideOf(app);
  return {
    grid: { rows: count, cols: count, patch: [app.state.patch, app.state.patch], prefix: 1 },
    frame: { model: [side, side], scale: [side / canvas.height, side / canvas.width], offset: [0, 0] },
  };
}

/** Small values on a canvas of one pixel a patch, on the one that is given or a new one. */
export function mapCanvas(values, side, table, ends, canvas = make("canvas")) {
  if (canvas.width !== side || canvas.height !== side) Object.assign(canvas, { width: side, height: side });
  const rgba = coloured(values, ends, table);
  for (let i = 0; i < values.length; i++) if (Number.isNaN(values[i])) rgba.set([20, 20, 20, 255], 4 * i);
  canvas.getContext("2d").putImageData(new ImageData(rgba, side, side), 0, 0);
  return canvas;
}

function hatch(context, [x0, y0, x1, y1]) {
  context.fillStyle = "#111";
  context.fillRect(x0, y0, x1 - x0 + 0.5, y1 - y0 + 0.5);
  context.strokeStyle = "#777";
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x0, y1);
  context.lineTo(x1, y0);
  context.stroke();
}

/** Whether the worker is still being asked for what is to be shown: until then all stays as it was. */
function awaited(app) {
  const { run, state } = app;
  if (!run || run.patch !== state.patch || state.view === "photo") return false;
  if (state.view === "rollout") return !run.rollout;
  if (state.view === "attention" && queryOf(app) < 0 && app.cell < 0) return false; // of CLS all is there
  return run.at?.layer !== state.layer || (state.view === "lens" && !run.at.every);
}

export function paintPicture(app) {
  if (awaited(app)) return;
  const { canvas } = app.ui;
  const photo = app.photos.get(app.run?.photo ?? app.state.photo);
  if (!photo?.picture) return;
  const { picture } = photo;
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    Object.assign(canvas, { width: picture.width, height: picture.height });
    canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
  }
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const { run } = app;
  if (!run || run.patch !== app.state.patch) return;
  const { frame, grid } = placeOn(canvas, app);
  const found = mapOf(app);
  const count = cellsOf(app);
  app.values = found && onGrid(found, run.kept, count);
  app.ends = found && (app.state.view === "lens" ? [0, 1] : endsOf([found], false));
  if (found) {
    context.imageSmoothingEnabled = false;
    context.globalAlpha = 0.62;
    context.drawImage(
      mapCanvas(app.values, grid.rows, app.table, app.ends, app.small),
      0,
      0,
      canvas.width,
      canvas.height,
    );
    context.globalAlpha = 1;
  }
  const unit = canvas.width / (canvas.clientWidth || canvas.width);
  if (!app.plain) gridLines(context, frame, grid, unit);
  const box = (cell) => boxOf(frame, grid, Math.floor(cell / grid.cols), cell % grid.cols);
  if (run.kept) {
    const kept = new Set(run.kept);
    for (let cell = 0; cell < count; cell++) if (!kept.has(cell)) hatch(context, box(cell));
  }
  for (const cell of app.marks ?? []) outline(context, box(cell), unit, true);
  const { query, view } = app.state;
  if (query >= 0 && view === "attention" && !isGone(app, query)) outline(context, box(query), unit, true);
  if (app.cell >= 0) outline(context, box(app.cell), unit, false);
}

/** What the picture shows, in words. */
export function titleOf(app) {
  const { state } = app;
  const query = queryOf(app);
  const who = query < 0 ? told(app, "cls") : told(app, "patchAt", placeWords(app, query));
  const head = state.head === "mean" ? told(app, "meanOfHeads") : told(app, "headN", { head: state.head + 1 });
  const values = { who, layer: state.layer + 1, head, label: app.base ? labelOf(app, classOf(app)) : "" };
  return told(app, `title_${app.plain ? "plain" : state.view}`, values);
}

const placeWords = (app, cell) => ({ row: Math.floor(cell / sideOf(app)) + 1, col: (cell % sideOf(app)) + 1 });

/** What the patch under the pointer says. */
function patchWords(app) {
  const { run, cell, state } = app;
  const plain = state.mode === "guided" && state.view === "photo"; // before attention is told of
  const hint = app.picking ? ["pickHint", "pickSecond"][app.marks?.length ?? 0] : "";
  const wanted = hint ? told(app, hint) : "";
  if (!run || run.patch !== state.patch || cell < 0 || cell >= cellsOf(app)) {
    if (plain) return wanted;
    return app.tool === "remove" ? told(app, "eraseHint", { count: state.removed.length }) : told(app, "pointHint");
  }
  const at = placeWords(app, cell);
  if (plain) return `${told(app, "patchPlain", at)} ${wanted}`;
  const token = tokenOf(run, cell);
  if (token < 0) return told(app, "patchOut", at);
  if (state.view === "rollout") return told(app, "patchRollout", { ...at, share: percent(run.rollout[token]) });
  if (state.view === "lens") {
    const shares = softmax(run.at.every.subarray(token * run.classes, (token + 1) * run.classes));
    const top = largest(shares);
    return told(app, "patchLens", { ...at, label: labelOf(app, top), share: percent(shares[top]) });
  }
  const row = fuse(rowsAt(run, state.layer, 0), run.heads, run.tokens, state.head);
  const own = fuse(rowsAt(run, state.layer, token), run.heads, run.tokens, state.head);
  return told(app, "patchAttention", { ...at, share: percent(row[token]), cls: percent(own[0]) });
}

export function labelPicture(app) {
  if (awaited(app)) return;
  const { ui } = app;
  say(ui.title, app.run ? titleOf(app) : "");
  say(ui.patchWords, patchWords(app));
  ui.bar.hidden = !app.values || app.state.view === "photo";
  if (!ui.bar.hidden) {
    say(ui.low, percent(app.ends[0]));
    say(ui.high, percent(app.ends[1]));
  }
  const keys = ui.canvas.tabIndex < 0 ? "" : ` ${told(app, "keysHint")}`;
  ui.canvas.setAttribute("aria-label", `${ui.title.textContent}.${keys}`);
  const photo = app.about.samples.find((one) => one.name === app.state.photo);
  say(ui.credit, photo?.credit ? told(app, "credit", photo) : told(app, photo ? "brought" : "ownPhoto", photo ?? {}));
}

function drawBar(app, canvas) {
  const shades = Float32Array.from({ length: 256 }, (_, i) => i / 255);
  canvas.getContext("2d").putImageData(new ImageData(coloured(shades, [0, 1], app.table), 256, 1), 0, 0);
}

/** A figure, its parts put into ui: canvas, title, colour bar, what the patch says. canvas: its attributes. */
export function buildFigure(app, ui, attributes) {
  ui.canvas = make("canvas", { width: 300, height: 200, ...attributes });
  ui.title = make("figcaption", { className: "title" });
  ui.patchWords = make("p", { className: "said" });
  ui.patchWords.setAttribute("aria-live", "polite");
  [ui.low, ui.high] = [make("span"), make("span")];
  const shades = make("canvas", { width: 256, height: 1 });
  shades.setAttribute("aria-hidden", "true");
  ui.bar = make("p", { className: "bar" }, ui.low, shades, ui.high);
  ui.credit = make("p", { className: "quiet" });
  drawBar(app, shades);
  ui.figure = make("figure", { className: "picture" }, ui.title, ui.canvas, ui.bar, ui.patchWords, ui.credit);
  return ui.figure;
}
