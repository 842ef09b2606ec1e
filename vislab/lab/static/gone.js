// Which patches are gone from the photograph: those that were clicked away, or as far as a film of them has come.

import { boxOf, seenBy } from "./places.js";
import { FORWARD, isOf, READ, same, settingsOf } from "./settings.js";

const UNKNOWN = "#808080"; // of a patch that is gone, before it is known what the model sees there

/** What became of the class under the map that is shown; null where that is of another map. */
export function currentRemoval(store) {
  const { removal, panes } = store.state;
  const { shown } = panes[0];
  const fresh = shown && same(settingsOf(store, panes[0]), shown.settings, [...FORWARD, ...READ]);
  return fresh && isOf(removal, panes[0]) ? removal : null;
}

/** What a film is made of now: of another map it would be another. */
export const filmedNow = (store) =>
  JSON.stringify([store.port.get("image"), store.port.get("_content"), settingsOf(store, store.state.panes[0])]);

/** The patches of the shown run that were clicked away. */
export function takenOf({ state: { taken, panes } }) {
  return taken.run === panes[0].shown?.run ? taken.patches : [];
}

/** What the class came to without those, as far as that is known; of another choice of patches, null. */
export function currentTrial(store) {
  const { without, panes } = store.state;
  const of = String([...takenOf(store)].sort((a, b) => a - b));
  return without && without.run === panes[0].shown?.run && String(without.gone) === of ? without : null;
}

/** -> {gone: whether each patch is; filled: what the model sees there, if that is known}; null where none can be. */
export function goneNow(store) {
  const { film, step, panes, filled } = store.state;
  const { shown } = panes[0];
  if (!shown) return null;
  const image = filled?.run === shown.run ? filled.image : null;
  const played = film && currentRemoval(store);
  if (played?.gone) {
    const isGone = (at) => (film === "deletion" ? at <= step : at > step);
    return { gone: Array.from(played.gone, isGone), filled: image };
  }
  const taken = takenOf(store);
  if (!taken.length) return null;
  const gone = Array(shown.grid.rows * shown.grid.cols).fill(false);
  for (const patch of taken) gone[patch] = true;
  return { gone, filled: image };
}

/** Draw them over whatever is there, edged; the context draws in source pixels. */
export function drawGone(context, { gone, filled }, frame, grid, unit) {
  context.beginPath();
  gone.forEach((is, i) => {
    const [x0, y0, x1, y1] = boxOf(frame, grid, Math.floor(i / grid.cols), i % grid.cols);
    if (is) context.rect(x0, y0, x1 - x0, y1 - y0);
  });
  context.save();
  context.clip();
  context.fillStyle = UNKNOWN;
  context.fill();
  if (filled) context.drawImage(filled, ...seenBy(frame));
  context.restore();
  context.strokeStyle = "rgb(255 255 255 / 0.45)";
  context.lineWidth = unit;
  context.stroke();
}
