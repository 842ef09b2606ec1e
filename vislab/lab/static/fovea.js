// The fovea: drawn on the photograph with the mouse or with keys, taken from a detector's box, moved and cleared.

import { seenBy } from "./places.js";
import { pointAt } from "./pointing.js";
import { commit, now, visibleBoxes } from "./settings.js";
import { fittedBox } from "./tokens.js";

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Buttons, the pointer on the first picture, and keys while it is drawn. */
export function bindFovea(store, ui) {
  ui.drawFovea.addEventListener("click", () => {
    const tool = store.state.tool === "fovea" ? "point" : "fovea";
    store.change({ tool, hover: null });
    if (tool === "fovea") ui.canvas.focus({ preventScroll: true });
  });
  ui.onBox.addEventListener("click", () => setFovea(store, nextBox(store)));
  ui.noFovea.addEventListener("click", () => setFovea(store, null));
  bindStroke(store, ui.figures[0]);
  ui.canvas.addEventListener("keydown", (event) => byKeys(store, event));
}

/** Set the boxes, none for null; the tool that draws them is put down with the last of them. */
function setFovea(store, boxes, note = null) {
  if (!boxes) store.change({ tool: store.state.tool === "fovea" ? "point" : store.state.tool });
  if (JSON.stringify(boxes) !== JSON.stringify(store.port.get("fovea")))
    return commit(store, { fovea: boxes }, { note });
  const { fovea: _, ...drag } = store.state.drag;
  store.change({ drag, note });
}

/** The most certain box of the detector; where the fovea lies on one already, on the next. */
function nextBox(store) {
  const { frame } = store.state.panes[0].shown;
  const sorted = visibleBoxes(store).toSorted((a, b) => b.score - a.score);
  const side = now(store, "fovea_patches")[0];
  const fitting = sorted.map(({ box }) => fittedBox(box, frame, side)).filter(Boolean);
  const at = fitting.findIndex((box) => JSON.stringify([box]) === JSON.stringify(now(store, "fovea")));
  return fitting.length ? [fitting[(at + 1) % fitting.length]] : null;
}

const holds = ([x0, y0, x1, y1], [x, y]) => x >= x0 && x <= x1 && y >= y0 && y <= y1;

/** A drag from within a box moves it; from elsewhere it draws one, with Shift beside those that are there. */
function bindStroke(store, figure) {
  const { canvas } = figure;
  let stroke = null; // {from, boxes, moved}: where it began, what was there, the number of the box that is moved
  canvas.addEventListener("pointerdown", (event) => {
    if (store.state.tool !== "fovea" || event.button !== 0 || !store.state.panes[0].shown) return;
    const from = pointAt(figure, event);
    const boxes = store.port.get("fovea") ?? [];
    stroke = { from, boxes, moved: boxes.findIndex((box) => holds(box, from)) };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke) return;
    const fovea = stroked(store, stroke, pointAt(figure, event), event.shiftKey);
    store.change({ drag: { ...store.state.drag, fovea } });
  });
  const end = (event) => {
    if (!stroke) return;
    const boxes = event.type === "pointerup" ? store.state.drag.fovea : null;
    const before = stroke.boxes.length ? stroke.boxes : null;
    const words = boxes && tooSmall(store, boxes);
    stroke = null;
    setFovea(store, boxes && !words ? boxes : before, words ? { words } : null);
  };
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);
}

/** The boxes as a stroke has them at a point, within what the model sees. */
function stroked(store, { from, boxes, moved }, at, beside) {
  const [left, top, wide, high] = seenBy(store.state.panes[0].shown.frame);
  if (moved >= 0) return movedBoxes(store, boxes, moved, [at[0] - from[0], at[1] - from[1]]);
  const [xs, ys] = [0, 1].map((axis) => {
    const [low, length] = axis ? [top, high] : [left, wide];
    const cut = (v) => Math.min(Math.max(v, low), low + length);
    return [cut(from[axis]), cut(at[axis])].toSorted((a, b) => a - b);
  });
  const box = [xs[0], ys[0], xs[1], ys[1]].map((v) => Math.round(v));
  return beside ? [...boxes, box] : [box];
}

/** One of the boxes moved, as far as the model sees. */
function movedBoxes(store, boxes, number, by) {
  const [left, top, wide, high] = seenBy(store.state.panes[0].shown.frame);
  const [x0, y0, x1, y1] = boxes[number];
  const dx = Math.min(Math.max(by[0], left - x0), left + wide - x1);
  const dy = Math.min(Math.max(by[1], top - y0), top + high - y1);
  const box = [x0 + dx, y0 + dy, x1 + dx, y1 + dy].map((v) => Number(v.toFixed(2)));
  return boxes.with(number, box);
}

/** Why boxes cannot be a fovea: one is smaller than one of its patches; "" where none is. */
export function tooSmall(store, boxes) {
  const { frame } = store.state.panes[0].shown;
  const side = now(store, "fovea_patches")[0];
  const [high, wide] = [0, 1].map((axis) => side / frame.scale[axis]);
  const small = boxes.some(([x0, y0, x1, y1]) => x1 - x0 < wide - 1e-6 || y1 - y0 < high - 1e-6);
  const size = `${Math.ceil(wide)} × ${Math.ceil(high)}`;
  return small
    ? `A fovea is at least one of its patches of ${side} px, ${size} px of the photograph: draw it larger.`
    : "";
}

/** Arrows move the last box by a large patch, with Shift its lower right corner; Enter puts one in the middle. */
function byKeys(store, event) {
  if (store.state.tool !== "fovea" || !store.state.panes[0].shown) return;
  if (!(event.key in KEYS) && !["Enter", "Escape", "Delete"].includes(event.key)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const boxes = now(store, "fovea");
  if (event.key === "Escape") return store.change({ tool: "point" });
  if (event.key === "Delete") return setFovea(store, null);
  const { frame } = store.state.panes[0].shown;
  const [left, top, wide, high] = seenBy(frame);
  if (event.key === "Enter" || !boxes) {
    const middle = [left + wide / 3, top + high / 3, left + (2 * wide) / 3, top + (2 * high) / 3];
    return boxes ? null : setFovea(store, [middle.map((v) => Math.round(v))]);
  }
  const step = now(store, "fovea_patches").at(-1);
  const by = KEYS[event.key].map((v, i) => (v * step) / frame.scale[1 - i]);
  const last = boxes.length - 1;
  if (!event.shiftKey) return setFovea(store, movedBoxes(store, boxes, last, by));
  const [x0, y0, x1, y1] = boxes[last];
  const corner = [Math.min(x1 + by[0], left + wide), Math.min(y1 + by[1], top + high)];
  const grown = boxes.with(
    last,
    [x0, y0, ...corner].map((v) => Number(v.toFixed(2))),
  );
  const words = corner[0] <= x0 || corner[1] <= y0 ? "A fovea cannot be smaller than that." : tooSmall(store, grown);
  setFovea(store, words ? boxes : grown, words ? { words } : null);
}
