// Keys on a picture: the arrows walk from patch to patch, Escape goes back to CLS.

import { cellOver, pin } from "./pointing.js";
import { commit, pinnedPoint } from "./settings.js";

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }; // rows, cols

export function bindKeyboard(store, ui) {
  for (const { canvas } of ui.figures) canvas.addEventListener("keydown", (event) => walk(store, event));
}

function walk(store, event) {
  const { shown } = store.state.panes[0];
  const by = STEPS[event.key];
  if (!shown || shown.model.reads || (!by && event.key !== "Escape")) return;
  event.preventDefault();
  event.stopPropagation(); // else the notebook moves its cell selection
  store.change({ hover: null });
  if (!by) return commit(store, { query: "cls" });
  const { rows, cols } = shown.grid;
  const from = cellOver(store, pinnedPoint(store));
  const [row, col] = from ? [from[0] + by[0], from[1] + by[1]] : [rows >> 1, cols >> 1];
  if (row >= 0 && row < rows && col >= 0 && col < cols) pin(store, [row, col]);
}
