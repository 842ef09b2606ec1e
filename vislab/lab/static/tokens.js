// How tokens are spent: how many each layer will have, before it runs; where patches of a fovea lie; and which token of a
// layer stands for which patch.

import { gridOf, toModel, toSource } from "./places.js";
import { now, SPENT, sizesOf } from "./settings.js";

export const NO_TOKEN = 65535; // in place of a token, of a patch that none stands for

/** Rounded as Python does it: a half to the even number. */
function rounded(v) {
  const low = Math.floor(v);
  if (v - low !== 0.5) return Math.round(v);
  return low % 2 ? low + 1 : low;
}

/** The layers before which patches go. keepAt: those that were chosen, which may be counted from the end; null: none. */
function stagesOf(keepAt, layers) {
  if (keepAt) return keepAt.map((layer) => (layer + layers) % layers).toSorted((a, b) => a - b);
  return [...new Set([1, 2, 3].map((part) => Math.floor((layers * part) / 4)))].filter(Boolean);
}

/** How many tokens each layer attends over. others: tokens that are no patches. */
export function countsOf({ keep, keep_at = null, gather = false, merge }, layers, patches, others) {
  const stages = stagesOf(keep_at, layers);
  let count = patches;
  return Array.from({ length: layers }, (_, layer) => {
    const stage = keep < 1 ? stages.indexOf(layer) : -1;
    if (stage >= 0) {
      const left = Math.min(count, Math.max(1, rounded(patches * keep ** ((stage + 1) / stages.length))));
      count = left + (gather && left < count ? 1 : 0);
    }
    if (layer) count -= Math.min(merge, Math.floor(count / 2));
    return count + others;
  });
}

/**
 * Where patches of several sizes lie. boxes: model pixels; sizes: px, the smallest first; size: [height, width] of the
 * input -> {rows, cols, patch} of the smallest, owner: which patch each of those is part of, patches: how many.
 */
export function layoutOf(boxes, sizes, [height, width]) {
  const small = sizes[0];
  const { rows, cols } = gridOf([height, width], [small, small]);
  const level = new Uint8Array(rows * cols).fill(sizes.length - 1);
  for (let step = sizes.length - 1; step > 0; step--) {
    const side = sizes[step] / small;
    const margin = sizes.slice(1, step).reduce((sum, one) => sum + one, 0);
    const low = (v) => Math.max(0, Math.floor((v - margin) / sizes[step]));
    const high = (v) => Math.ceil((v + margin) / sizes[step]);
    const touched = (r, c) =>
      boxes.some(([x0, y0, x1, y1]) => r >= low(y0) && r < high(y1) && c >= low(x0) && c < high(x1));
    for (let i = 0; i < level.length; i++) {
      const [r, c] = [Math.floor(Math.floor(i / cols) / side), Math.floor((i % cols) / side)];
      if (level[i] === step && touched(r, c)) level[i] = step - 1;
    }
  }
  const sides = Array.from(level, (one) => sizes[one] / small);
  const first = (i) => {
    const [r, c] = [Math.floor(i / cols), i % cols];
    return (r - (r % sides[i])) * cols + c - (c % sides[i]);
  };
  let patches = 0;
  const numbers = Array.from(level, (_, i) => (first(i) === i ? patches++ : -1));
  return { rows, cols, patch: [small, small], owner: Array.from(level, (_, i) => numbers[first(i)]), patches };
}

/** Boxes in source pixels as a model's input has them, cut to it; rounded, so that they touch no further patch. */
export function boxesOnInput(boxes, frame) {
  const cut = (v, most) => Number(Math.min(Math.max(v, 0), most).toFixed(6));
  return boxes.map(([x0, y0, x1, y1]) => {
    const [[a, b], [c, d]] = [toModel(frame, x0, y0), toModel(frame, x1, y1)];
    const [height, width] = frame.model;
    return [cut(a, width), cut(b, height), cut(c, width), cut(d, height)];
  });
}

/** A box, source pixels, cut to what the model sees; one smaller than `side` px of its input is widened; null outside. */
export function fittedBox(box, frame, side) {
  const [[a, b], [c, d]] = [toModel(frame, box[0], box[1]), toModel(frame, box[2], box[3])];
  const [height, width] = frame.model;
  const within = (from, to, length) => {
    const [low, high] = [Math.max(from, 0), Math.min(to, length)];
    if (low >= high) return null;
    if (high - low >= side) return [low, high];
    const start = Math.min(Math.max((low + high - side) / 2, 0), length - side);
    return [start, start + side];
  };
  const [across, down] = [within(a, c, width), within(b, d, height)];
  if (!across || !down) return null;
  return [...toSource(frame, across[0], down[0]), ...toSource(frame, across[1], down[1])];
}

/** Whether a patch is no longer a token of its own in every layer. */
export const isSpent = (store) => now(store, "keep") < 1 || now(store, "merge") > 0 || Boolean(now(store, "fovea"));

/** What a forward would have -> {counts, rows, cols, patch, owner}: tokens of each layer, the cells, a fovea's layout. */
export function planOf(store, { model, frame }) {
  const [size, patch] = sizesOf(store, model);
  const [fovea, sizes] = ["fovea", "fovea_patches"].map((name) => now(store, name) ?? null);
  const [keep_at, gather] = ["keep_at", "gather"].map((name) => now(store, name));
  const spent = { keep: now(store, "keep") ?? 1, keep_at, gather, merge: now(store, "merge") ?? 0 };
  const { layers, prefix, suffix } = model;
  const key = JSON.stringify([size, patch, fovea, sizes, spent, layers, prefix, suffix, frame]);
  if (store.memory.plan?.key === key) return store.memory.plan;
  const share = [0, 1].map((axis) => size[axis] / frame.model[axis]);
  const next = {
    model: size,
    scale: frame.scale.map((v, axis) => v * share[axis]),
    offset: frame.offset.map((v, axis) => v * share[axis]),
  };
  const cells = fovea
    ? layoutOf(boxesOnInput(fovea, next), sizes, size)
    : { ...gridOf(size, patch), patch, owner: null };
  const patches = fovea ? cells.patches : cells.rows * cells.cols;
  store.memory.plan = { ...cells, key, counts: countsOf(spent, layers, patches, prefix + suffix) };
  return store.memory.plan;
}

/** How many times as much attention costs as over the patches that the model was made for. */
export function costFactor(store, shown) {
  const { size, patch, prefix, suffix } = shown.model;
  const { counts } = planOf(store, shown);
  const { tokens } = gridOf(size, patch, prefix + suffix);
  return counts.reduce((sum, n) => sum + n * n, 0) / (counts.length * tokens ** 2);
}

/** The patches that the settings would make, where they differ from those shown. */
export function proposedGrid(store, { index, shown }) {
  if (index || shown.model.reads) return null;
  const { grid, frame, settings } = shown;
  const next = planOf(store, shown);
  const placed = ["fovea", "fovea_patches"].every(
    (name) => JSON.stringify(now(store, name) ?? null) === JSON.stringify(settings[name] ?? null),
  );
  if (next.rows === grid.rows && next.cols === grid.cols && (placed || !next.owner)) return null;
  const [size] = sizesOf(store, shown.model);
  const share = [0, 1].map((axis) => frame.model[axis] / size[axis]); // new patches in pixels of the old input
  return { ...next, patch: next.patch.map((p, axis) => p * share[axis]) };
}

/** The token of a layer that stands for each patch; null where every patch is one. */
export function ownersAt({ owners, grid: { rows, cols } }, layer) {
  return owners?.length ? owners.subarray(layer * rows * cols, (layer + 1) * rows * cols) : null;
}

/** The token of a layer that stands for a patch, [row, col]; null where it was dropped. */
export function tokenAt(shown, layer, [row, col]) {
  const { grid } = shown;
  const owners = ownersAt(shown, layer);
  const at = row * grid.cols + col;
  if (!owners) return grid.prefix + at;
  return owners[at] === NO_TOKEN ? null : owners[at];
}

/** A value a token as a value a patch; 0 on those that were dropped. */
export function onPatches(shown, layer, row) {
  const { grid } = shown;
  const owners = ownersAt(shown, layer);
  if (!owners) return row.subarray(grid.prefix, grid.prefix + grid.rows * grid.cols);
  return Float32Array.from(owners, (token) => (token === NO_TOKEN ? 0 : row[token]));
}

/** RGB of each patch, three values a patch, as the mean of its token's patches; of dropped ones dark and grey. */
export function regionColours(colours, owners) {
  const sums = new Map();
  owners.forEach((token, i) => {
    const sum = sums.get(token) ?? [0, 0, 0, 0];
    sums.set(token, [sum[0] + colours[3 * i], sum[1] + colours[3 * i + 1], sum[2] + colours[3 * i + 2], sum[3] + 1]);
  });
  const out = new Float32Array(colours.length);
  owners.forEach((token, i) => {
    const [red, green, blue] = colours.subarray(3 * i, 3 * i + 3);
    const [r, g, b, n] = sums.get(token);
    const grey = 0.35 * (0.299 * red + 0.587 * green + 0.114 * blue);
    out.set(token === NO_TOKEN ? [grey, grey, grey] : [r / n, g / n, b / n], 3 * i);
  });
  return out;
}

/** How many patches have no token, and for how many the largest token stands. */
export function regionSizes(owners) {
  const sizes = new Map();
  for (const token of owners) sizes.set(token, (sizes.get(token) ?? 0) + 1);
  const dropped = sizes.get(NO_TOKEN) ?? 0;
  sizes.delete(NO_TOKEN);
  return { dropped, most: Math.max(0, ...sizes.values()), regions: sizes.size };
}

/** Settings of tokens that are shown are those that are set. */
export const spentAsShown = (store, { settings }) =>
  SPENT.every((name) => JSON.stringify(now(store, name) ?? null) === JSON.stringify(settings[name] ?? null));
