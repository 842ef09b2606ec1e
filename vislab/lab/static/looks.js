// An answer's words and where they look: maps kept as they came, and read for the word that is shown.

import { typed } from "./numbers.js";
import { cellAt, placeOf } from "./places.js";
import { mostWords, wordSeen } from "./seen.js";
import { layerIndex, methodName, now, takes } from "./settings.js";
import { share } from "./words.js";

const PARTS = ["image", "text", "first token"]; // of a word's attention

/** The answer that is shown; null where the model has no words, or has said nothing of this photograph. */
export function answerOf({ port, state: { answer, panes } }) {
  const { shown } = panes[0];
  return shown?.model.reads && answer?.run === shown.run && answer.content === port.get("_content") ? answer : null;
}

/** The chosen word of an answer; where there is none such, the longest, as Python has it. */
export function chosenWord({ words }, word) {
  if (word !== null && word < words.length) return word;
  const lengths = words.map((text) => [...text].length);
  return lengths.indexOf(Math.max(...lengths));
}

/** The word that is shown: the one that is pointed at, else the chosen one. */
export function wordShown(store, answer) {
  const { pointed } = store.state;
  return pointed !== null && pointed < answer.words.length ? pointed : chosenWord(answer, now(store, "word"));
}

const lookKey = ({ run, method, layer, head }, word) => [run, method, layer, head, word].join(":");

/** Keep maps of words as they came; those of other answers are let go. */
export function keepLooks({ memory: { looks } }, message, [whole, steps, shares]) {
  for (const key of looks.keys()) if (!key.startsWith(`${message.run}:`)) looks.delete(key);
  const { grid, frame } = placeOf(message);
  const held = {
    slots: message.slots,
    tower: message.tower,
    grid,
    frame,
    maps: typed(whole, message.bytes === 2 ? Uint16Array : Uint8Array),
    steps: typed(steps, Float32Array),
    shares: typed(shares, Float32Array),
  };
  held.heads = held.shares.length / (PARTS.length * message.words.length);
  message.words.forEach((word, at) => {
    looks.set(lookKey(message, word), { ...held, at });
  });
}

/**
 * A word's map by the method, layer and head that are chosen -> {values, grid, frame, shares, tower}; null where it has
 * not come. shares: of image, text and first token; of heads that are fused otherwise than by their mean, their mean's.
 */
export function lookOf(store, shown, word) {
  const [method, layer, head] = ["method", "layer", "head"].map((name) => now(store, name));
  const one = method === "attention";
  const asked = {
    run: shown.run,
    method,
    layer: takes(store, "layer", method) ? (layer === "mean" ? layer : layerIndex(shown, layer)) : null,
    head: one || !takes(store, "head", method) ? null : head,
  };
  const held = store.memory.looks.get(lookKey(asked, word));
  if (!held) return null;
  const { slots, at, grid, frame, maps, steps, heads, tower } = held;
  const own = typeof head === "number" ? (head + heads) % heads : head;
  const slot = at * slots.length + (one ? slots.indexOf(own) : 0);
  const size = grid.rows * grid.cols;
  const values = Float32Array.from(maps.subarray(slot * size, (slot + 1) * size), (v) => v * steps[slot]);
  return { values, grid, frame, tower, shares: sharesOf(held, one && typeof own === "number" ? own : null) };
}

/** head: null for the mean of all. */
function sharesOf({ shares, heads, at }, head) {
  const of = (one) => PARTS.map((_, part) => shares[(at * heads + one) * PARTS.length + part]);
  if (head !== null) return of(head);
  const all = Array.from({ length: heads }, (_, one) => of(one));
  return PARTS.map((_, part) => all.reduce((sum, one) => sum + one[part], 0) / heads);
}

/** What of a word lies on the image, on other words and on the first token. */
export function sharesWords(store, word, shares) {
  const [method, head] = ["method", "head"].map((name) => now(store, name));
  const [image, text, first] = shares.map(share);
  const mean = method === "attention" && ["max", "min"].includes(head) ? ", in the mean of heads" : "";
  return `Of the ${method} of “${word}”${mean}, ${image} lies on the image, ${text} on words, ${first} on the first token`;
}

/** What a pane shows of the word: as `readingOf` has it, and place, the grid and frame of its map, views, the tiles. */
export function wordReading(store, { shown, values }) {
  const answer = answerOf(store);
  if (!answer) return { values, cell: null, title: "", words: "", signed: false };
  const word = wordShown(store, answer);
  const name = `“${answer.words[word]}”`;
  const look = lookOf(store, shown, word);
  const title = wordTitle(store, shown, name);
  if (!look) {
    const words = store.page ? "this map is not in this page" : `the map of ${name} is on its way`;
    return { values, cell: null, title, words, signed: false, preview: true };
  }
  const place = { grid: look.grid, frame: look.frame };
  const views = now(store, "method") === "relevance" && look.tower === "through the vision tower" ? [] : answer.views;
  return {
    values: look.values,
    cell: null,
    title,
    signed: false,
    place,
    views,
    words: wordCaption(store, shown, answer.words[word], look),
  };
}

function wordTitle(store, shown, name) {
  const [method, layer, head] = ["method", "layer", "head"].map((one) => now(store, one));
  if (method === "relevance") return `${methodName(store, method)} for ${name}`;
  const last = layer === "mean" ? "" : layerIndex(shown, layer);
  const where = layer === "mean" ? "mean of layers" : method === "rollout" ? `layers 0–${last}` : `layer ${last}`;
  const heads = typeof head === "number" ? `head ${head}` : `heads: ${head}`;
  return `${method} of ${name} · ${where} · ${heads}`;
}

function wordCaption(store, shown, word, { values, grid, frame, tower }) {
  const { hover } = store.state;
  const at = hover && cellAt(frame, grid, ...hover);
  const end = tower ? ` · ${tower}` : "";
  return `${wordSeen(store, shown, word)}\u00a0· ${mostWords(store, values, grid.cols, at)}${end}`;
}

/** What the image tokens of an answer are, in words: of alike views how many there are. */
export function tokensWords({ tokens, views }) {
  const alike = new Map();
  for (const { grid } of views) {
    const name = `${grid.rows} × ${grid.cols}`;
    alike.set(name, (alike.get(name) ?? 0) + 1);
  }
  const seen = [...alike].map(([name, count]) => (count > 1 ? `${count} views of ${name}` : name));
  const cells = views.reduce((sum, { grid }) => sum + grid.rows * grid.cols, 0);
  const cut = tokens.image - tokens.ends < cells ? " without their margins" : "";
  const ends = `${cut}${tokens.ends ? `, and ${tokens.ends} ends of lines` : ""}`;
  return `${tokens.image.toLocaleString("en")} of the image: ${seen.join(", ")}${ends}; ${tokens.all - tokens.image} of words`;
}

/** A word and its shares, to be read aloud. */
export const wordLabel = (text, at, count, shares) =>
  `${text}, word ${at + 1} of ${count}${shares ? `, ${share(shares[0])} of it on the image` : ""}`;
