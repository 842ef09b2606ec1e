// Pointing at patches with the mouse: hover tells nobody; a pin is a setting.

import { boxOf, cellAt } from "./places.js";
import { ATTENTION, commit, layerIndex, methodName, now, pinnedPoint } from "./settings.js";
import { sourceAt } from "./sight.js";

export function bindPointing(store, ui) {
  for (const figure of ui.figures) {
    const { canvas } = figure;
    canvas.addEventListener("pointermove", (event) => {
      if (store.state.panes[0].shown && event.buttons === 0 && store.state.tool === "point")
        store.change({ hover: pointAt(figure, event) });
    });
    canvas.addEventListener("pointerleave", () => store.change({ hover: null }));
    canvas.addEventListener("click", (event) => choose(store, pointAt(figure, event)));
  }
  ui.unpin.addEventListener("click", () => commit(store, { query: "cls" }));
  ui.back.addEventListener("click", () => commit(store, store.port.exported));
}

/** Where a pointer is, source pixels. */
export function pointAt({ canvas, sight }, { clientX, clientY }) {
  return sourceAt(sight, canvas.getBoundingClientRect(), clientX, clientY);
}

/** The patch of the first picture over a point, if there is both. */
export function cellOver({ state }, point) {
  const { shown } = state.panes[0];
  return shown && !shown.model.reads && point && cellAt(shown.frame, shown.grid, ...point);
}

/** Pin the middle of a patch, as far as it lies in the photograph. changes: other settings; how: as `commit` has it. */
export function pin(store, cell, changes = {}, how = {}) {
  const { frame, grid } = store.state.panes[0].shown;
  const [x0, y0, x1, y1] = boxOf(frame, grid, ...cell);
  const [height, width] = store.port.get("_source");
  const query = [Math.min(Math.max((x0 + x1) / 2, 0), width), Math.min(Math.max((y0 + y1) / 2, 0), height)];
  commit(store, { query, ...changes }, how);
}

function choose(store, point) {
  const cell = cellOver(store, point);
  if (!cell || store.state.tool !== "point") return;
  if (String(cell) === String(cellOver(store, pinnedPoint(store)))) commit(store, { query: "cls" });
  else if (store.page) pin(store, cell);
  else pinWhatIsSeen(store, cell);
}

/** Pointing shows attention of one layer, whatever the method; a pin keeps that, and says so where it is another map. */
function pinWhatIsSeen(store, cell) {
  const method = now(store, "method");
  const layer = layerIndex(store.state.panes[0].shown, now(store, "layer"));
  const changes = now(store, "layer") === "mean" ? { layer } : {};
  if (ATTENTION.includes(method) || !store.state.panes[0].shown.model.layers) return pin(store, cell, changes);
  const name = methodName(store, method);
  const words = `Pinned as you saw it: attention of layer ${layer}.`;
  const note = { words, ways: { [`${name} instead`]: { method } } };
  pin(store, cell, { ...changes, method: "cls" }, { note });
}
