// What is seen, in one sentence for those who read no titles.

import { isFlat } from "./colours.js";
import { ATTENTION, layerIndex, now, pinnedPoint, settingsOf, takes } from "./settings.js";
import { share } from "./words.js";

const MANY = "mean of all queries";
const WHO = { CLS: "the model's summary", [MANY]: "all tokens on average" };
const LOOKS = { attention: "Where the model looks as it says", rollout: "What reaches", relevance: "What speaks for" };

/** Whether a patch that is pinned is who asks, by a method. */
export const asksByPatch = (store, method) => ATTENTION.includes(method) || takes(store, "query", method);

/** The point that a pane's map is asked from, source pixels: pointed at, or pinned where the pin is what asks. */
export function askingPoint(store, { method }) {
  if (store.state.hover) return store.state.hover;
  return asksByPatch(store, method) || now(store, "incoming") ? pinnedPoint(store) : null;
}

/** What a pane shows. reading: as `readingOf` has it; a row of its own is attention that the page computed. */
export function seenWords(store, pane, reading) {
  const { shown } = pane;
  const { method, layer, head } = "row" in reading ? settingsOf(store, pane) : shown.settings;
  const who = reading.cell ? "the marked patch" : (WHO[shown.query] ?? shown.query);
  const last = layerIndex(shown, layer);
  const by = typeof head === "number" ? `, by head\u00a0${head}` : "";
  if (reading.row === null) return `What looks at ${who} in layer\u00a0${last}${by}`;
  if (reading.row || ATTENTION.includes(method)) {
    const where = layer === "mean" && !reading.row ? ", layers averaged" : ` in layer\u00a0${last}`;
    const looks = !reading.cell && shown.query === MANY ? "look" : "looks";
    return `What ${who} ${looks} at${where}${by}`;
  }
  if (!shown.target) return `What reaches ${who} ${throughLayers(last, shown)}`;
  const name = `“${shown.target.split(",")[0]}”`;
  if (store.state.about.methods[method]?.alone) return `What each patch alone says of ${name}`;
  return reading.signed ? `Red speaks for ${name}, blue against it` : `What speaks for ${name}`;
}

const throughLayers = (last, { model }) =>
  last === model.layers - 1 ? "through all layers" : `through layers 0 to ${last}`;

/** The same of a word of an answer. */
export function wordSeen(store, shown, word) {
  const [method, layer] = ["method", "layer"].map((name) => now(store, name));
  const end = method === "rollout" ? ` ${throughLayers(layerIndex(shown, layer), shown)}` : "";
  return `${LOOKS[method]} “${word}”${end}`;
}

/** Values that are shares of attention, as the page can tell them; those of other methods have no unit. */
export const inShares = (method) => [...ATTENTION, "rollout"].includes(method);

/** The highest value and where that is; of what is pointed at, its own. at: [row, col], or null. */
export function mostWords(store, values, cols, at) {
  const number = (index) => (inShares(now(store, "method")) ? share(values[index]) : values[index].toPrecision(2));
  if (at) return `${number(at[0] * cols + at[1])} of it at row ${at[0]}, column ${at[1]}`;
  if (isFlat(values)) return `all values equal, ${number(0)}`;
  const best = values.reduce((top, value, index) => (value > values[top] ? index : top), 0);
  return `most, ${number(best)}, at row ${Math.floor(best / cols)}, column ${best % cols}`;
}
