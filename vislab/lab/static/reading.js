// What a pane shows now: values over its patches, in what words, and whether they are a preview.

import { isFlat, span } from "./colours.js";
import { wordReading } from "./looks.js";
import { entropyBits } from "./numbers.js";
import { localRow } from "./operands.js";
import { passingReading } from "./passing.js";
import { cellAt } from "./places.js";
import { askingPoint, asksByPatch, inShares, seenWords } from "./seen.js";
import {
  ATTENTION,
  FORWARD,
  isOf,
  isTwo,
  layerIndex,
  methodName,
  now,
  READ,
  same,
  second,
  settingsOf,
  sizesOf,
  statusOf,
  takes,
} from "./settings.js";
import { costFactor, onPatches, proposedGrid, tokenAt } from "./tokens.js";
import { duration, factor, share, whole } from "./words.js";

/**
 * -> {values, title}, and where they are there: cell, the patch it is about; crops, each box by itself; row, over all
 * tokens; words, for the caption; preview; signed.
 */
export function readingOf(store, pane) {
  const { shown } = pane;
  if (shown.model.reads) return wordReading(store, pane);
  const { hover } = store.state;
  const settings = settingsOf(store, pane);
  const { grid, model } = shown;
  const at = askingPoint(store, settings);
  const cell = at && cellAt(shown.frame, grid, ...at);
  const layer = layerIndex(shown, settings.layer);
  const token = cell ? tokenAt(shown, layer, cell) : null;
  const preview = settings.attention_scale !== shown.settings.attention_scale;
  const incoming = now(store, "incoming") && !preview;
  const early = settings.method === "rollout" && ATTENTION.includes(shown.settings.method); // what is ready before it
  const title = titleOf(store, shown, shown.settings);
  const stays = { values: pane.values, cell, title, preview: early, signed: shown.signed };
  const passed = passingReading(store, pane);
  if (passed) return { ...stays, cell: null, ...passed };
  if (at && !cell) return { ...stays, words: "the model sees nothing here" };
  if (hover && cell && token === null)
    return { ...stays, words: `patch ${cell.join(", ")} was dropped before layer ${layer}` };
  const fresh = same(settings, shown.settings, [...FORWARD, ...READ]);
  if (fresh && !hover && !incoming) return closerReading(store, pane) ?? stays;
  const readable = token !== null || model.cls; // without CLS the summary is Python's
  const oneLayer = hover || preview || incoming || (ATTENTION.includes(settings.method) && settings.layer !== "mean");
  if (!readable || !oneLayer) return stays;
  const read = localRow(store, pane, settings, token ?? 0, incoming);
  if (!read) return stays;
  if (read.refused) return { ...stays, words: read.refused };
  const values = onPatches(shown, layer, read.row);
  const who = cell ? `patch ${cell[0]}, ${cell[1]}` : "CLS";
  const does = incoming ? `who attends to ${who}` : `what ${who} attends to`;
  const head = store.state.presenting ? "" : ` · ${headWords(settings.head)}`; // there it stands beside, as large
  return {
    values,
    cell,
    preview,
    row: incoming ? null : read.row,
    title: `${does} · layer ${read.layer}${head}${scaleWords(store, settings)}`,
  };
}

const atRest = (store) => ({ ...store, state: { ...store.state, hover: null } });

/** The pinned patch that asks for what a pane shows while nothing is pointed at; null where none does. */
export function pinnedCell(store, pane) {
  const at = askingPoint(atRest(store), settingsOf(store, pane));
  return at && !pane.shown.model.reads ? cellAt(pane.shown.frame, pane.shown.grid, ...at) : null;
}

/** Whether a pinned patch is who asks for what is shown, in one picture at least. */
export function pinIsShown(store) {
  const panes = store.state.panes.slice(0, isTwo(store) ? 2 : 1);
  return panes.some((pane) => pane.shown && Boolean(readingOf(atRest(store), pane).cell));
}

/** Each box by itself, where that is wanted and there. */
export function closerReading(store, pane) {
  const { closer } = store.state;
  if (!now(store, "two_stage") || pane.index || !isOf(closer, pane)) return null;
  const { crops, values, signed, costs } = closer;
  const title = `${methodName(store, pane.shown.settings.method)} · each box by itself`;
  const costWords = ({ name, tokens, seconds }, i) =>
    `${name}: ${whole(tokens)} tokens, ${i ? "about " : ""}${duration(seconds)}`; // the second is a forecast
  const none = "no box above the confidence: nothing to look at closer";
  const words = crops.length ? costs.map(costWords).join(" · ") : none;
  return { crops, values, signed, cell: null, title, words };
}

const headWords = (head) => (typeof head === "number" ? `head ${head}` : `heads: ${head}`);
const scaleWords = (store, { attention_scale: s }) =>
  s === 1 && !("attention_scale" in (second(store) ?? {})) ? "" : ` · scale\u00a0×\u00a0${s}`;

function titleOf(store, shown, { method, layer, head, query, ...others }) {
  const last = layerIndex(shown, layer);
  const many = layer === "mean" ? "mean of layers" : `layers 0–${last}`;
  const where = layer === "mean" || method === "rollout" ? many : `layer ${last}`;
  const scale = scaleWords(store, others);
  if (shown.target) {
    const name = `${methodName(store, method)} for ${shown.target}`;
    const asking = query !== "cls" && asksByPatch(store, method) ? ` · asked by ${shown.query}` : "";
    return (takes(store, "layer", method) ? `${name} · ${where}` : name) + asking + scale;
  }
  const usual = ATTENTION.includes(method) ? "attention" : method;
  const name = ["attention", "rollout"].includes(usual) ? usual : methodName(store, method);
  return `${name} of ${shown.query} · ${where} · ${headWords(head)}${scale}`;
}

/** What the two pictures differ in, where their titles do not say it. */
export function paneName(store, pane) {
  const { model } = pane.shown;
  const [size, patch] = sizesOf(store, model, settingsOf(store, pane));
  const own = settingsOf(store, pane);
  const words = { model: model.name, patch_size: `patches of ${patch[0]} px`, image_size: `input of ${size[1]} px` };
  Object.assign(words, { keep: `keep ${Math.round(100 * own.keep)} %`, merge: `merge ${own.merge}` });
  Object.assign(words, { fovea: own.fovea ? "with a fovea" : "without a fovea" });
  Object.assign(words, { heads_off: own.heads_off ? "heads off" : "all heads on" });
  const differing = Object.keys(second(store)).map((name) => words[name]);
  return differing.filter(Boolean).join(", ");
}

/** What stands below the pictures. reading: of the first pane. */
export function captionOf(store, reading) {
  const { alone, drag, hover, panes } = store.state;
  if (!reading) return waitingWords(store);
  if (reading.words) return reading.words;
  if (store.state.presenting) return stageCaption(store, reading);
  const { grid } = panes[0].shown;
  const [highest, at] = highestOf(reading, grid);
  const most = isFlat(reading.values) ? `all values equal, ${highest}` : `highest ${highest} at patch ${at}`;
  const known = hover || reading.cell || reading.preview || store.state.tool !== "point";
  const hint = known ? "" : " · point at a patch, click to pin it";
  const entropy = ({ row }) => ` · entropy ${entropyBits(row).toFixed(1)} of ${Math.log2(row.length).toFixed(1)} bits`;
  const bits = hasEntropy(store, reading) ? entropy(reading) : "";
  const waits = Object.keys(drag).length ? "let go to run the model" : "the model is running";
  const todo = store.page ? "no model runs in this page" : alone ? "no kernel" : waits;
  const end = reading.preview ? ` · this layer only; ${todo}` : proposedGrid(store, panes[0]) ? ` · ${todo}` : "";
  return `${most}${bits}${hint}${end}`;
}

/** What there is to see once something is asked, or the model has run. */
function waitingWords(store) {
  const { state } = statusOf(store);
  if (state === "ready" && store.state.takes === "question")
    return "Ask something below: each word of the answer shows where the model looks.";
  return state === "error" ? "" : "The map comes when the model is ready.";
}

/** The highest value of a map, and its patch, in words. */
function highestOf({ values }, { cols }) {
  const best = values.indexOf(span(values)[1]);
  return [values[best].toPrecision(2), `${Math.floor(best / cols)}, ${best % cols}`];
}

const hasEntropy = (store, { row }) => row && !["max", "min"].includes(now(store, "head"));

/** What is seen in a sentence that is read across a room, then its number; while the model runs, that. */
function stageCaption(store, reading) {
  const { state, words } = statusOf(store);
  if (state === "computing") return `◌ computing · ${words}`;
  const [pane] = store.state.panes;
  const waits = proposedGrid(store, pane) ? " · let go to run" : "";
  const cost = factor(costFactor(store, pane.shown));
  const costs = cost === "1.0" ? "" : `attention costs × ${cost}`;
  if (waits) return `${costs || "new patches"}${waits}`;
  const shares = reading.row || inShares(pane.shown.settings.method);
  const height = share(span(reading.values)[1]);
  const highest = isFlat(reading.values) ? `all values equal, ${height}` : `at most ${height} on one patch`;
  const most = shares && reading.row !== null ? highest : "";
  return [seenWords(store, pane, reading), costs || most].filter(Boolean).join("\u00a0· ");
}
