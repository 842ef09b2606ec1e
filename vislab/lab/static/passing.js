// Tokens on their way through the layers: which layer's are shown, at rest or as a film from the first to the last.

import { layerIndex, now } from "./settings.js";
import { isSpent, ownersAt, regionSizes } from "./tokens.js";
import { whole } from "./words.js";

const TICK = 60; // ms
const STAYS = 8; // ticks that a layer is shown
const PASSES = 6; // ticks in which one becomes the next

/** The layer whose tokens are shown, a part between two while one becomes the next; null where the map is shown. */
export function layerPassed({ state: { passing, panes } }) {
  const { shown } = panes[0];
  return passing === null || !shown?.owners ? null : Math.min(passing, shown.model.layers - 1);
}

/** What the first picture shows of that, as `readingOf` has it; null where it does not. */
export function passingReading(store, { index, shown }) {
  const at = index ? null : layerPassed(store);
  if (at === null) return null;
  const layer = Math.round(at);
  const { dropped, most, regions } = regionSizes(ownersAt(shown, layer));
  const title = `tokens of layer ${layer} · ${whole(shown.counts[layer])} of ${whole(shown.counts[0])}`;
  const cells = shown.grid.rows * shown.grid.cols;
  const gone = dropped ? `${whole(dropped)} of ${whole(cells)} patches dropped` : "no patch dropped";
  const joined = most > 1 ? `at most ${most} in one token` : "each a token of its own";
  return { regions: at, title, words: `${gone} · ${whole(regions)} tokens of patches, ${joined}` };
}

/** Show the tokens of a layer; null: the map again. */
export function passTo(store, passing) {
  haltPassing(store);
  store.change({ passing, hover: null });
}

/** Through the layers from the first, or halted where it is. */
export function playPassing(store) {
  if (store.state.passClock) return haltPassing(store);
  let tick = 0;
  const move = () => {
    const { shown } = store.state.panes[0];
    if (!shown?.owners) return passTo(store, null); // of another model, or of none yet
    const last = shown.model.layers - 1;
    tick += 1;
    const [layer, rest] = [Math.floor(tick / (STAYS + PASSES)), tick % (STAYS + PASSES)];
    const passing = Math.min(last, layer + Math.max(0, rest - STAYS) / PASSES);
    store.change({ passing });
    if (passing === last) haltPassing(store);
  };
  store.change({ passing: 0, hover: null, passClock: setInterval(move, TICK) });
}

export function haltPassing(store) {
  clearInterval(store.state.passClock);
  if (store.state.passClock) store.change({ passClock: 0 });
}

/** The layer below whose map patches lie that it no longer has; null where that is no single one. */
export function fadedLayer(store, { shown }) {
  const { settings } = shown;
  const one = ["cls", "attention"].includes(settings.method) && settings.layer !== "mean";
  if (!shown.owners || !isSpent(store)) return null;
  return one ? layerIndex(shown, now(store, "layer")) : shown.model.layers - 1;
}
