// Values as colours: the ends of a range, marks along it, values read more finely, and pixels.

export function span(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return [low, high];
}

/** Whether a map has one value alone: no patch is its highest. */
export function isFlat(values) {
  const [low, high] = span(values);
  return values.length > 1 && low === high;
}

/** Round numbers between low and high, about `count` of them. */
export function ticks(low, high, count = 4) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= rough * 0.999);
  const marks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-12); i++) marks.push(i * step);
  return marks;
}

/** [rows, cols] read `fine` times as finely, bilinearly between patch centres and constant beyond the outermost. */
export function upsample(values, rows, cols, fine) {
  const wide = cols * fine;
  const across = new Float32Array(rows * wide);
  const out = new Float32Array(rows * fine * wide);
  for (let x = 0; x < wide; x++) {
    const [c0, c1, w] = neighbours(x, cols, fine);
    for (let r = 0; r < rows; r++) across[r * wide + x] = values[r * cols + c0] * (1 - w) + values[r * cols + c1] * w;
  }
  for (let y = 0; y < rows * fine; y++) {
    const [r0, r1, w] = neighbours(y, rows, fine);
    const above = r0 * wide;
    const below = r1 * wide;
    const o = y * wide;
    for (let x = 0; x < wide; x++) out[o + x] = across[above + x] * (1 - w) + across[below + x] * w;
  }
  return out;
}

function neighbours(i, count, fine) {
  const at = Math.min(Math.max((i + 0.5) / fine - 0.5, 0), count - 1);
  const first = Math.floor(at);
  return [first, Math.min(first + 1, count - 1), at - first];
}

/** The two ends of the colours of some values; where values below 0 speak against something, 0 is in the middle. */
export function endsOf(lists, signed) {
  const [low, high] = span(lists.flatMap((values) => span(values)));
  const end = Math.max(-low, high) || 1;
  return signed ? [-end, end] : [low, high];
}
export const centred = ([low, high]) => low === -high && low < 0;

/**
 * Values -> RGBA through a table of 256 RGB colours; what is weak is transparent: below `threshold`, a fraction of the
 * range, or, where 0 is in its middle, of the way from 0 to its ends.
 */
export function coloured(values, range, table, threshold = 0) {
  const [low, high] = range;
  const both = centred(range);
  const out = new Uint8ClampedArray(values.length * 4);
  const by = high > low ? 1 / (high - low) : 0;
  for (let i = 0, o = 0; i < values.length; i++, o += 4) {
    const share = Math.min(Math.max((values[i] - low) * by, 0), 1);
    const c = 3 * Math.min(Math.floor(share * 256), 255);
    out[o] = table[c];
    out[o + 1] = table[c + 1];
    out[o + 2] = table[c + 2];
    out[o + 3] = (both ? Math.abs(2 * share - 1) : share) < threshold ? 0 : 255;
  }
  return out;
}
