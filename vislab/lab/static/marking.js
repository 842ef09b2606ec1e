// Showing a segmenter what is meant: a click is a point, a drag a box, a click on a detector's box takes that.

import { labelsOf } from "./ink.js";
import { pointAt } from "./pointing.js";
import { commit, now, visibleBoxes } from "./settings.js";

const STILL_MARK = 4; // px of the screen that a pointer may move within a click
const NEAR = 9; // px within which a click is on a mark, or on the line of a box
const STEP_MARK = 16; // px that an arrow key goes; with Shift
const STEP_FINE = 2;
const NO_MARKS = { points: null, outside: null, boxes: null };
const LEADS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const hundredths = (numbers) => numbers.map((v) => Number(v.toFixed(2)));

export function bindMarking(store, ui) {
  const [figure] = ui.figures;
  ui.mark.addEventListener("click", () => {
    const tool = store.state.tool === "mask" ? "point" : "mask";
    store.change({ tool, hover: null, cursor: null, corner: null });
    if (tool === "mask") ui.canvas.focus({ preventScroll: true });
  });
  ui.markBox.addEventListener("click", () => commit(store, { boxes: [boxAfter(store)] }));
  ui.noMarks.addEventListener("click", () => commit(store, NO_MARKS));
  bindMarkStroke(store, ui, figure);
  ui.canvas.addEventListener("keydown", (event) => markByKeys(store, ui, figure, event));
}

/** A drag draws the box, a click does one of the rest. */
function bindMarkStroke(store, ui, figure) {
  const { canvas } = figure;
  let stroke = null; // {x, y, from}: where it began, on the screen and in source pixels; box, once it is a drag
  canvas.addEventListener("pointerdown", (event) => {
    if (store.state.tool !== "mask" || event.button !== 0) return;
    event.preventDefault(); // Alt with the mouse is the window manager's in places
    canvas.focus({ preventScroll: true });
    stroke = { x: event.clientX, y: event.clientY, from: pointAt(figure, event), box: null };
    canvas.setPointerCapture(event.pointerId);
    store.change({ cursor: null, corner: null });
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke) return;
    const far = Math.hypot(event.clientX - stroke.x, event.clientY - stroke.y) > STILL_MARK;
    if (!far && !stroke.box) return;
    stroke.box = boxBetween(store, stroke.from, pointAt(figure, event));
    store.change({ drag: { ...store.state.drag, boxes: [stroke.box] } });
  });
  const end = (event) => {
    if (!stroke) return;
    const { box, from } = stroke;
    stroke = null;
    if (event.type === "pointerup" && box) return setBox(store, box);
    if (event.type === "pointerup") return markAt(store, figure, from, event.altKey || ui.background.checked);
    const { boxes: _, ...drag } = store.state.drag;
    store.change({ drag });
  };
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);
}

/** The box between two points, within the photograph. */
function boxBetween(store, a, b) {
  const [p, q] = [a, b].map((point) => withinPhoto(store, point));
  const [xs, ys] = [0, 1].map((axis) => [p[axis], q[axis]].toSorted((one, other) => one - other));
  return [xs[0], ys[0], xs[1], ys[1]];
}

function withinPhoto(store, [x, y]) {
  const [height, width] = store.port.get("_source");
  return hundredths([Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)]);
}

/** One without an area is none: what was there stays. */
function setBox(store, box) {
  const { boxes: _, ...drag } = store.state.drag;
  if (box[0] < box[2] && box[1] < box[3]) return commit(store, { boxes: [box] });
  store.change({ drag, note: { words: "A box needs an area: drag from one of its corners to the other." } });
}

/** Take away the mark that is there, or take the detector's box whose line or label is there, or set a point. */
function markAt(store, figure, at, background) {
  const near = NEAR / figure.sight.scale;
  for (const name of ["points", "outside"]) {
    const marks = now(store, name) ?? [];
    const left = marks.filter(([x, y]) => Math.hypot(x - at[0], y - at[1]) > near);
    if (left.length < marks.length) return commit(store, { [name]: left.length ? left : null });
  }
  const [box] = (now(store, "boxes") ?? []).filter((one) => isOnLine(one, at, near));
  if (box) return commit(store, { boxes: null });
  const taken = background ? null : detectedAt(store, figure, at, near);
  if (taken) return commit(store, { boxes: [taken] });
  setPoint(store, at, background);
}

function setPoint(store, at, background) {
  const name = background ? "outside" : "points";
  commit(store, { [name]: [...(now(store, name) ?? []), withinPhoto(store, at)] });
}

const isWithin = ([x0, y0, x1, y1], [x, y], by) => x >= x0 - by && x <= x1 + by && y >= y0 - by && y <= y1 + by;
const isOnLine = (box, at, near) => isWithin(box, at, near) && !isWithin(box, at, -near);

/** The detector's box whose line or label is under a point. */
function detectedAt(store, { canvas, sight }, at, near) {
  const context = canvas.getContext("2d");
  const all = visibleBoxes(store);
  const unit = (store.state.presenting ? 2 : 1) / sight.scale; // as they are drawn
  context.save();
  const labels = labelsOf(context, all, unit, store.port.get("_source"));
  context.restore();
  const found = all.find(({ box }, i) => isOnLine(box, at, near) || isWithin(labels[i], at, 0));
  return found ? hundredths(found.box) : null;
}

/** The detector's surest box; where that is taken, the next. */
function boxAfter(store) {
  const all = visibleBoxes(store).toSorted((a, b) => b.score - a.score);
  const boxes = all.map(({ box }) => hundredths(box));
  const at = boxes.findIndex((box) => String([box]) === String(now(store, "boxes")));
  return boxes[(at + 1) % boxes.length];
}

/** Arrows lead a cross, Enter sets a point there, B one corner of a box and then the other, Delete takes the last away. */
function markByKeys(store, ui, { sight }, event) {
  const { tool, cursor, corner } = store.state;
  if (tool !== "mask" || event.ctrlKey || event.metaKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!(key in LEADS) && !["Enter", "b", "Delete", "Backspace", "Escape"].includes(key)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const [height, width] = store.port.get("_source");
  const here = cursor ?? [width / 2, height / 2];
  if (key === "Escape") return store.change(cursor ? { cursor: null, corner: null } : { tool: "point" });
  if (key === "Delete" || key === "Backspace") return dropLast(store);
  if (key === "Enter") {
    store.change({ cursor: here });
    return setPoint(store, here, event.altKey || ui.background.checked);
  }
  if (key === "b") {
    store.change({ cursor: here, corner: corner ? null : here });
    return corner ? setBox(store, boxBetween(store, corner, here)) : undefined;
  }
  const by = (event.shiftKey ? STEP_FINE : STEP_MARK) / sight.scale;
  store.change({
    cursor: withinPhoto(
      store,
      [0, 1].map((axis) => here[axis] + by * LEADS[key][axis]),
    ),
  });
}

/** The last point of background goes first, then those of the object, then the box. */
function dropLast(store) {
  const name = ["outside", "points", "boxes"].find((one) => now(store, one)?.length);
  if (!name) return;
  const left = now(store, name).slice(0, -1);
  commit(store, { [name]: left.length ? left : null });
}
