// Closer to the photograph: Ctrl and the wheel, buttons, + − 0, and dragging what is zoomed.

import { CLOSEST, centreKeeping, sourceAt } from "./sight.js";

const STEP = 1.25;
const STILL = 4; // px that a pointer may move within a click

/** Zoom by a factor, about a source pixel that stays where it is. */
export function zoomBy(store, figure, by, about = null) {
  const zoom = Math.min(CLOSEST, Math.max(1, store.state.zoom * by));
  const { sight } = figure;
  if (!sight || zoom === store.state.zoom) return;
  const [height, width] = store.port.get("_source");
  const at = about ?? [sight.x + sight.wide / sight.scale / 2, sight.y + sight.high / sight.scale / 2];
  const centre = zoom === 1 ? [width / 2, height / 2] : centreKeeping(sight, [height, width], at, zoom);
  store.change({ zoom, centre });
}

export function bindZooming(store, ui) {
  const [first] = ui.figures;
  ui.closer.addEventListener("click", () => zoomBy(store, first, STEP ** 2));
  ui.farther.addEventListener("click", () => zoomBy(store, first, STEP ** -2));
  ui.whole.addEventListener("click", () => store.change({ zoom: 1, centre: null }));
  const keys = { "+": STEP, "=": STEP, "-": 1 / STEP, 0: 1 / CLOSEST };
  for (const figure of ui.figures) {
    const { canvas } = figure;
    canvas.addEventListener("wheel", (event) => onWheel(store, figure, event), { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      zoomBy(store, figure, keys[event.key]);
    });
    bindDragging(store, figure);
  }
}

/** Alone the wheel scrolls the page, as everywhere. */
function onWheel(store, figure, event) {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const at = sourceAt(figure.sight, figure.canvas.getBoundingClientRect(), event.clientX, event.clientY);
  zoomBy(store, figure, event.deltaY < 0 ? STEP : 1 / STEP, at);
}

/** What is zoomed follows the pointer; a drag is no click. */
function bindDragging(store, figure) {
  const { canvas } = figure;
  let from = null;
  let moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    moved = false;
    const { sight } = figure;
    if (store.state.zoom === 1 || store.state.tool !== "point" || event.button !== 0) return;
    from = { event, centre: [sight.x + sight.wide / sight.scale / 2, sight.y + sight.high / sight.scale / 2] };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [dx, dy] = [event.clientX - from.event.clientX, event.clientY - from.event.clientY];
    moved ||= Math.hypot(dx, dy) > STILL;
    if (!moved) return;
    canvas.setPointerCapture(event.pointerId);
    const { scale } = figure.sight;
    store.change({ centre: [from.centre[0] - dx / scale, from.centre[1] - dy / scale], hover: null });
  });
  const end = () => {
    from = null;
  };
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);
  canvas.addEventListener(
    "click",
    (event) => {
      if (moved) event.stopImmediatePropagation();
      moved = false;
    },
    true,
  );
}
