// Pointing at patches with the mouse: hover tells nobody; a pin is a setting.

import { boxOf, cellAt } from "./places.js";
import { commit, pinnedPoint } from "./settings.js";

export function bindPointing(store, ui) {
  for (const { canvas } of ui.figures) {
    canvas.addEventListener("pointermove", (event) => {
      if (store.state.panes[0].shown) store.change({ hover: pointAt(store, event) });
    });
    canvas.addEventListener("pointerleave", () => store.change({ hover: null }));
    canvas.addEventListener("click", (event) => choose(store, event));
  }
  ui.unpin.addEventListener("click", () => commit(store, { query: "cls" }));
  ui.back.addEventListener("click", () => commit(store, store.port.exported));
}

/** Where a pointer is, source pixels. */
function pointAt({ port }, { currentTarget, clientX, clientY }) {
  const box = currentTarget.getBoundingClientRect();
  const [height, width] = port.get("_source");
  return [((clientX - box.left) / box.width) * width, ((clientY - box.top) / box.height) * height];
}

/** The patch of the first picture over a point, if there is both. */
export function cellOver({ state }, point) {
  const { shown } = state.panes[0];
  return shown && point && cellAt(shown.frame, shown.grid, ...point);
}

/** Pin the middle of a patch, as far as it lies in the photograph. */
export function pin(store, cell) {
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
