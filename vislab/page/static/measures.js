// What is told of a run, in numbers: probabilities, orders, layers that decide, quarters, halves.

import { attentionRow, entropyBits, fuse } from "../../lab/static/numbers.js";

export function softmax(logits) {
  const top = Math.max(...logits);
  const out = Float32Array.from(logits, (v) => Math.exp(v - top));
  const sum = out.reduce((a, b) => a + b, 0);
  return out.map((v) => v / sum);
}

/** Indices of values, the largest first. */
export const ranked = (values) => Array.from(values.keys()).sort((a, b) => values[b] - values[a]);

export const largest = (values) => values.indexOf(Math.max(...values));

/** Attention of one token at a layer -> [heads, tokens]; that of another token than CLS where the run was looked at. */
export function rowsAt(run, layer, token) {
  const { heads, tokens, dim, cls, at } = run;
  if (token > 0) return attentionRow({ q: at.q, k: at.k, heads, tokens, dim }, token);
  return cls.subarray(layer * heads * tokens, (layer + 1) * heads * tokens);
}

/** Attention of CLS to the patches that are in, heads fused. */
export const clsTo = (run, layer, head = "mean") =>
  fuse(rowsAt(run, layer, 0), run.heads, run.tokens, head).subarray(1);

/** From which layer on the lens says what the model says at the end; 0 is the embedding. lens: logits by layer. */
export function decidedAt(lens) {
  const final = largest(lens.at(-1));
  let layer = lens.length - 1;
  while (layer > 0 && largest(lens[layer - 1]) === final) layer--;
  return layer;
}

/** From which layer on the lens gives the final class more than half, or -1 where it does not in the end. */
export function sureAt(lens) {
  const final = largest(lens.at(-1));
  let layer = lens.length;
  while (layer > 0 && softmax(lens[layer - 1])[final] > 0.5) layer--;
  return layer < lens.length ? layer : -1;
}

/** How many of the values, the largest first, make up half of their sum. */
export function halfOf(values) {
  const sum = values.reduce((a, b) => a + b, 0);
  let [count, gathered] = [0, 0];
  for (const v of Array.from(values).sort((a, b) => b - a)) {
    if (gathered >= sum / 2) break;
    gathered += v;
    count++;
  }
  return count;
}

/** Bits of a row as a share of the most that it could have: 0 looks at one place, 1 everywhere alike. */
export const spread = (row) => entropyBits(row) / Math.log2(row.length);

/** The quarter of a square grid that gathers most: 0 top left, 1 top right, 2 bottom left, 3 bottom right. */
export function quarterOf(values, side) {
  const sums = [0, 0, 0, 0];
  values.forEach((v, i) => {
    const [row, col] = [Math.floor(i / side), i % side];
    sums[(row >= side / 2 ? 2 : 0) + (col >= side / 2 ? 1 : 0)] += v;
  });
  return largest(sums);
}

/** 0 to count − 1 in an order that a seed draws (Fisher & Yates; a linear congruential generator). */
export function shuffled(count, seed) {
  const order = Array.from({ length: count }, (_, i) => i);
  let state = seed >>> 0;
  for (let i = count - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** How many of so many patches are left out where a share of them is kept: one stays. */
export const goingOf = (count, keep) => Math.min(count - 1, Math.round((1 - keep) * count));

/** All patches but some -> what goes into the model, or null for all of them. */
export function keptOf(count, removed) {
  if (!removed.size) return null;
  return Uint32Array.from(Array.from({ length: count }, (_, i) => i).filter((i) => !removed.has(i)));
}

/** Values of tokens on the whole grid: NaN where a patch is not in. */
export function onGrid(values, kept, count) {
  if (!kept) return values;
  const out = new Float32Array(count).fill(NaN);
  kept.forEach((cell, i) => {
    out[cell] = values[i];
  });
  return out;
}

/** The products of two tokens' query and key at the layer that was looked at, one a channel: a logit is their sum. */
export function products({ at, tokens, dim }, head, from, to) {
  const place = (token) => (head * tokens + token) * dim;
  return Float32Array.from({ length: dim }, (_, d) => at.q[place(from) + d] * at.k[place(to) + d]);
}

/** 0.2 -> "20 %"; small shares with a figure behind the point. */
export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.005) return "<0.01 %";
  return `${value >= 9.95 || value < 0.005 ? value.toFixed(0) : value.toFixed(value >= 0.95 ? 1 : 2)} %`;
}
