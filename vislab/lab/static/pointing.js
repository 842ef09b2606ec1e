// Pointing at patches: hover tells nobody; a pin is a setting. With the mouse, or with arrow keys.

import { boxOf, cellAt } from "./places.js";
import { commit, pinnedPoint } from "./settings.js";

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }; // rows, cols

export function bindPointing(store, ui) {
  for (const { canvas } of ui.figures) {
    canvas.addEventListener("pointermove", (event) => {
      if (store.state.panes[0].shown) store.change({ hover: pointAt(store, event) });
    });
    canvas.addEventListener("pointerleave", () => store.change({ hover: null }));
    canvas.addEventListener("click", (event) => choose(store, event));
    canvas.addEventListener("keydown", (event) => walk(store, event));
  }
  ui.unpin.addEventListener("click", () => commit(store, { query: "cls" }));
}

/** Where a pointer is, source pixels. */
function pointAt({ port }, { currentTarget, clientX, clientY }) {
  const box = currentTarget.getBoundingClientRect();
  const [height, width] = port.get("_source");
  return [((clientX - box.left) / box.width) * width, ((clientY - box.top) / box.height) * height];
}

/** The patch of the first picture over a point, if there is both. */
function cellOver({ state }, point) {
  const { shown } = state.panes[0];
  return shown && point && cellAt(shown.frame, shown.grid, ...point);
}

/** Pin the middle of a patch, as far as it lies in the photograph. */
function pin(store, cell) {
  const { frame, grid } = store.state.panes[0].shown;
  const [x0, y0, x1, y1] = boxOf(frame, grid, ...cell);
  const [height, width] = store.port.get("_source");
  commit(store, { query: [Math.min(Math.max((x0 + x1) / 2, 0), width), Math.min(Math.max((y0 + y1) / 2, 0), height)] });
}

function choose(store, event) {
  const cell = cellOver(store, pointAt(store, event));
  if (!cell) return;
  if (String(cell) === String(cellOver(store, pinnedPoint(store)))) commit(store, { query: "cls" });
  else pin(store, cell);
}

function walk(store, event) {
  const { shown } = store.state.panes[0];
  const by = STEPS[event.key];
  if (!shown || (!by && event.key !== "Escape")) return;
  event.preventDefault();
  event.stopPropagation(); // else the notebook moves its cell selection
  store.change({ hover: null });
  if (!by) return commit(store, { query: "cls" });
  const { rows, cols } = shown.grid;
  const from = cellOver(store, pinnedPoint(store));
  const [row, col] = from ? [from[0] + by[0], from[1] + by[1]] : [rows >> 1, cols >> 1];
  if (row >= 0 && row < rows && col >= 0 && col < cols) pin(store, [row, col]);
}
