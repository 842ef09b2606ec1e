// The model: weights out of their file, and the kernel that runs them.

import { patchesOf, positionsOf } from "./pixels.js";

function halfFloat(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return exponent === 31 ? sign * Infinity : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * Hand on the tensors of a file that quantise.py packed, one at a time: take({layer, place, rows, cols, values, steps}).
 * values: floats, or numbers of 8 bits, with the step of each row; steps: null for floats.
 */
export function eachTensor(bytes, take) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const halves = Float32Array.from({ length: 65536 }, (_, bits) => halfFloat(bits));
  for (const [layer, place, rows, cols, kind, start] of head) {
    const count = rows * Math.max(1, cols);
    const from = bytes.byteOffset + 4 + length + start;
    const copy = (offset, size) => bytes.buffer.slice(offset, offset + size);
    const one = { layer, place, rows, cols, steps: null };
    if (kind === "int8") {
      one.steps = new Float32Array(copy(from, 4 * rows));
      one.values = new Int8Array(bytes.buffer, from + 4 * rows, count);
    } else if (kind === "float16") {
      one.values = Float32Array.from(new Uint16Array(copy(from, 2 * count)), (bits) => halves[bits]);
    } else one.values = new Float32Array(copy(from, 4 * count));
    take(one);
  }
}

const FULL = "memory";

function checked(failed) {
  if (failed) throw new RangeError(FULL);
}

/** Room for so many numbers in the kernel's memory. */
function roomIn(kernel, count) {
  const at = kernel.alloc(4 * count);
  checked(!at);
  return at;
}

/** Numbers into the kernel's memory, which may have grown since. */
const put = (kernel, at, values) => new values.constructor(kernel.memory.buffer, at, values.length).set(values);

/** Numbers out of the kernel's memory. */
const got = (kernel, at, count) => new Float32Array(kernel.memory.buffer.slice(at, at + 4 * count));

/** A model in the kernel's memory. form: its widths and preprocessing, as class_page.py writes them. */
export async function opened(code, bytes, form) {
  const { instance } = await WebAssembly.instantiate(code, {});
  const kernel = instance.exports;
  const { dim, layers, heads, hidden, patch, classes, epsilon } = form;
  const pixels = 3 * patch * patch;
  checked(kernel.configure(dim, layers, heads, hidden, pixels, classes, epsilon));
  const model = { kernel, form, positions: null, places: new Map(), cut: null, cells: new Float32Array(0), spare: [] };
  const most = Math.max(3 * dim, hidden) * dim; // numbers of 8 bits, or those of both ends as floats
  const scratch = roomIn(kernel, Math.max(most, pixels * dim, classes * dim));
  const steps = roomIn(kernel, Math.max(3 * dim, hidden, classes));
  eachTensor(bytes, (one) => {
    if (one.layer === layers && one.place === 7) model.positions = one.values;
    else {
      put(kernel, scratch, one.values);
      if (one.steps) put(kernel, steps, one.steps);
      checked(kernel.put(one.layer, one.place, scratch, one.rows, one.cols, one.steps ? steps : 0));
    }
  });
  return model;
}

/** Positions for patches of a size, made once. */
function placesOf(model, patch) {
  const { dim, side, patch: own, sizes } = model.form;
  if (!model.places.has(patch)) {
    const made = positionsOf(model.positions, dim, side / own, Math.floor(side / patch), sizes[patch].places);
    model.places.set(patch, made);
  }
  return model.places.get(patch);
}

/** The patches of the photograph and size that were asked for last, made once, always in the same room. */
function cutOf(model, rgb, patch) {
  if (model.cut?.rgb !== rgb || model.cut.patch !== patch) {
    const { form } = model;
    const count = Math.floor(form.side / patch) ** 2 * 3 * form.patch ** 2;
    if (model.cells.length < count) model.cells = new Float32Array(count);
    const patches = model.cells.subarray(0, count);
    patchesOf(rgb, form, patch, form.sizes[patch].pixels, patches);
    model.cut = { rgb, patch, patches };
  }
  return model.cut.patches;
}

/**
 * Numbers out of the kernel's memory, in a buffer that was given back or in a new one. blocks: for how many times
 * [tokens, dim] of the smallest patches it has room, so that it fits again; of memory that is never written a browser
 * takes none.
 */
function copied(model, at, count, blocks) {
  const { dim, side, sizes } = model.form;
  const bytes = 4 * blocks * dim * (1 + Math.floor(side / Math.min(...Object.keys(sizes))) ** 2);
  const found = model.spare.findIndex((buffer) => buffer.byteLength === bytes);
  const [buffer] = found < 0 ? [new ArrayBuffer(bytes)] : model.spare.splice(found, 1);
  const out = new Float32Array(buffer, 0, count);
  out.set(new Float32Array(model.kernel.memory.buffer, at, count));
  return out;
}

/** Some rows of a matrix, in an order of their own, or all of them (null), into the kernel's memory. */
function putRows(kernel, at, matrix, width, rows) {
  const count = rows?.length ?? matrix.length / width;
  const out = new Float32Array(kernel.memory.buffer, at, count * width);
  if (!rows) out.set(matrix);
  else for (let i = 0; i < count; i++) out.set(matrix.subarray(rows[i] * width, (rows[i] + 1) * width), i * width);
}

/** Do something with room in the kernel's memory, which is free again afterwards. */
function within({ kernel }, act) {
  const mark = kernel.mark();
  try {
    return act((count) => roomIn(kernel, count));
  } finally {
    kernel.release(mark);
  }
}

/** What the head makes of tokens whose states lie at a place -> logits [count, classes]. */
function classified({ kernel, form: { classes } }, at, count, room) {
  const padded = Math.ceil(classes / 8) * 8;
  const read = room(count * padded);
  checked(kernel.classify(count, at, read));
  const all = new Float32Array(kernel.memory.buffer, read, count * padded);
  const out = new Float32Array(count * classes);
  for (let i = 0; i < count; i++) out.set(all.subarray(i * padded, i * padded + classes), i * classes);
  return out;
}

/**
 * One forward of a photograph. rgb: [side, side, 3]. wish: {patch, scale, on} ([layers, heads]), kept: the patches that
 * go in, or null for all; moved: for each the patch whose pixels stand in its place, or null; more: whether states are
 * kept, for `look`, with the lens of CLS and its attention in every layer and head (`cls`).
 */
export function forward(model, rgb, wish) {
  const { kernel, form } = model;
  const { dim, layers, heads, classes } = form;
  const width = 3 * form.patch ** 2;
  const { kept, moved, scale } = wish;
  const patches = cutOf(model, rgb, wish.patch);
  const places = placesOf(model, wish.patch);
  const n = kept?.length ?? patches.length / width;
  const tokens = n + 1;
  return within(model, (room) => {
    const size = tokens * dim;
    const states = room((layers + 1) * size);
    within(model, (inner) => {
      const [pixels, positions] = [inner(n * width), inner(n * dim)];
      putRows(kernel, pixels, patches, width, kept && moved ? kept.map((cell) => moved[cell]) : (kept ?? moved));
      putRows(kernel, positions, places, dim, kept);
      kernel.embed(n, pixels, positions, states);
    });
    const [scales, on] = [scale, wish.on].map((values) => {
      const at = room(values.length);
      put(kernel, at, values);
      return at;
    });
    const cls = room(layers * heads * tokens);
    checked(kernel.forward(tokens, states, scales, on, cls));
    const read = (layer) => classified(model, states + 4 * layer * size, 1, room);
    const told = { tokens, heads, layers, dim: dim / heads, classes, patch: wish.patch, kept: kept ?? null };
    const run = { ...told, logits: read(layers) };
    if (!wish.more) return { run };
    const lens = Array.from({ length: layers + 1 }, (_, layer) => read(layer));
    const held = { tokens, scale, states: copied(model, states, (layers + 1) * size, layers + 1) };
    return { run: { ...run, lens, cls: got(kernel, cls, layers * heads * tokens) }, held };
  });
}

/**
 * What is asked of a forward that is held -> {layer, q, k}: queries, times their scale, and keys of a layer, both
 * [heads, tokens, head_dim]; every: with each token as the head reads it after that layer; rollout: with the rollout of
 * CLS. Both null where they are not asked for.
 */
export function look(model, { tokens, scale, states }, { layer, every, rollout }) {
  const { kernel } = model;
  const { dim, layers, heads } = model.form;
  const size = tokens * dim;
  return within(model, (room) => {
    const [x, scales] = [room(size), room(layers * heads)];
    put(kernel, scales, scale);
    put(kernel, x, states.subarray(layer * size, (layer + 1) * size));
    const [q, k] = [room(size), room(size)];
    checked(kernel.look(tokens, x, layer, scales + 4 * layer * heads, q, k));
    const found = { layer, q: copied(model, q, size, 1), k: copied(model, k, size, 1), every: null, rollout: null };
    if (every) {
      put(kernel, x, states.subarray((layer + 1) * size, (layer + 2) * size));
      found.every = classified(model, x, tokens, room);
    }
    if (rollout) {
      const [all, row] = [room(layers * size), room(tokens)];
      put(kernel, all, states.subarray(0, layers * size));
      put(kernel, row, new Float32Array(tokens).fill(1, 0, 1));
      checked(kernel.walk(tokens, all, scales, layers - 1, row));
      found.rollout = got(kernel, row, tokens);
    }
    return found;
  });
}
