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
 * Hand on the tensors of a file that quantise.py packed, one at a time: take({layer, place, rows, cols, values}).
 * room: count -> the Float32Array into which the values of the next are written.
 */
export function eachTensor(bytes, room, take) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const halves = Float32Array.from({ length: 65536 }, (_, bits) => halfFloat(bits));
  for (const [layer, place, rows, cols, kind, start] of head) {
    const count = rows * Math.max(1, cols);
    const from = bytes.byteOffset + 4 + length + start;
    const copy = (offset, size) => bytes.buffer.slice(offset, offset + size);
    const values = room(count);
    if (kind === "int8") {
      const steps = new Float32Array(copy(from, 4 * rows));
      const numbers = new Int8Array(bytes.buffer, from + 4 * rows, count);
      for (let i = 0; i < count; i++) values[i] = numbers[i] * steps[Math.floor(i / cols)];
    } else if (kind === "float16") {
      const bits = new Uint16Array(copy(from, 2 * count));
      for (let i = 0; i < count; i++) values[i] = halves[bits[i]];
    } else values.set(new Float32Array(copy(from, 4 * count)));
    take({ layer, place, rows, cols, values });
  }
}

const FULL = "memory";

function checked(failed) {
  if (failed) throw new RangeError(FULL);
}

/** A model in the kernel's memory. form: its widths and preprocessing, as class_page.py writes them. */
export async function opened(code, bytes, form) {
  const { instance } = await WebAssembly.instantiate(code, {});
  const kernel = instance.exports;
  const { dim, layers, heads, hidden, patch, classes, epsilon } = form;
  checked(kernel.configure(dim, layers, heads, hidden, 3 * patch * patch, classes, epsilon));
  const most = Math.max(3 * dim, hidden) * Math.max(dim, hidden, 3 * patch * patch, classes);
  const model = { kernel, form, positions: null, places: new Map(), cut: null, cells: new Float32Array(0), spare: [] };
  const scratch = kernel.alloc(4 * most);
  checked(!scratch);
  const room = (count) => new Float32Array(kernel.memory.buffer, scratch, count);
  eachTensor(bytes, room, ({ layer, place, rows, cols, values }) => {
    if (layer === layers && place === 7) model.positions = values.slice();
    else checked(kernel.put(layer, place, scratch, rows, cols));
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
 * Numbers out of the kernel's memory, in a buffer that was given back or in a new one. All have room for the smallest
 * patches, so that each fits; of memory that is never written a browser takes none.
 */
function copied(model, at, count) {
  const { layers, dim, side, sizes } = model.form;
  const most = 1 + Math.floor(side / Math.min(...Object.keys(sizes))) ** 2;
  const buffer = model.spare.pop() ?? new ArrayBuffer(4 * layers * dim * most);
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

/**
 * One forward of a photograph, and what is asked of it. rgb: [side, side, 3]. wish: {patch, scale, on} ([layers, heads]),
 * kept: the patches that go in, or null for all; moved: for each the patch whose pixels stand in its place, or null;
 * more: whether queries, keys and rollout are wanted; lens: a layer whose every token is to be read by the head, or -1.
 */
export function forward(model, rgb, wish) {
  const { kernel, form } = model;
  const { dim, layers, heads, classes } = form;
  const width = 3 * form.patch ** 2;
  const { kept, moved } = wish;
  const patches = cutOf(model, rgb, wish.patch);
  const places = placesOf(model, wish.patch);
  const n = kept?.length ?? patches.length / width;
  const tokens = n + 1;
  const mark = kernel.mark();
  try {
    const padded = Math.ceil(classes / 8) * 8;
    const room = (count) => {
      const at = kernel.alloc(4 * count);
      checked(!at);
      return at;
    };
    const [p, e, s, o, q, k] = [
      n * width,
      n * dim,
      layers * heads,
      layers * heads,
      layers * tokens * dim,
      layers * tokens * dim,
    ].map(room);
    const states = room((layers + 1) * tokens * dim);
    const read = room(tokens * padded);
    const row = room(tokens);
    const put = (at, values) => new Float32Array(kernel.memory.buffer, at, values.length).set(values);
    const get = (at, count) => new Float32Array(kernel.memory.buffer.slice(at, at + 4 * count));
    putRows(kernel, p, patches, width, kept && moved ? kept.map((cell) => moved[cell]) : (kept ?? moved));
    putRows(kernel, e, places, dim, kept);
    put(s, wish.scale);
    put(o, wish.on);
    checked(kernel.forward(n, p, e, s, o, q, k, states));
    const readAt = (layer, count) => {
      checked(kernel.classify(count, states + 4 * layer * tokens * dim, read));
      const all = get(read, count * padded);
      const out = new Float32Array(count * classes);
      for (let i = 0; i < count; i++) out.set(all.subarray(i * padded, i * padded + classes), i * classes);
      return out;
    };
    const run = {
      tokens,
      heads,
      layers,
      dim: dim / heads,
      classes,
      patch: wish.patch,
      kept: wish.kept,
      logits: readAt(layers, 1),
    };
    if (!wish.more) return run;
    put(row, new Float32Array(tokens).fill(1, 0, 1));
    checked(kernel.walk(tokens, q, k, layers - 1, row));
    const lens = Array.from({ length: layers + 1 }, (_, layer) => readAt(layer, 1));
    const every = wish.lens >= 0 ? readAt(wish.lens, tokens) : null;
    return {
      ...run,
      q: copied(model, q, layers * tokens * dim),
      k: copied(model, k, layers * tokens * dim),
      rollout: get(row, tokens),
      lens,
      every,
    };
  } finally {
    kernel.release(mark);
  }
}
