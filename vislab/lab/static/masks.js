// Masks as Python tells them, in runs: their pixels, their edges, and their colours over each other.

const FINEST = 2048; // pixels of the longer side in which a mask is drawn; one of more is sampled

/** runs: lengths of runs of equal pixels, row by row, the first of those outside -> 1 where the mask is, a byte a pixel. */
export function unrolled(runs, count) {
  const bits = new Uint8Array(count);
  let at = 0;
  runs.forEach((length, i) => {
    if (i % 2) bits.fill(1, at, at + length);
    at += length;
  });
  return bits;
}

/** The pixels of a mask of a size, [height, width] -> {bits, high, wide}: all of them, of a large one those under centres. */
export function sampled(runs, [height, width], finest = FINEST) {
  const bits = unrolled(runs, height * width);
  const share = finest / Math.max(height, width);
  if (share >= 1) return { bits, high: height, wide: width };
  const [high, wide] = [height, width].map((side) => Math.max(1, Math.round(side * share)));
  const of = (i, side, all) => Math.floor(((i + 0.5) * all) / side);
  const found = new Uint8Array(high * wide);
  for (let i = 0; i < found.length; i++) {
    found[i] = bits[of(Math.floor(i / wide), high, height) * width + of(i % wide, wide, width)];
  }
  return { bits: found, high, wide };
}

/** Where a mask ends: lines between its pixels and others, or the picture's border -> [x0, y0, x1, y1, …]. */
export function bordersOf({ bits, high, wide }) {
  const lines = [];
  const at = (x, y) => (x >= 0 && y >= 0 && x < wide && y < high ? bits[y * wide + x] : 0);
  const along = (length, across, differs, line) => {
    for (let k = 0; k <= across; k++) {
      let from = null;
      for (let i = 0; i <= length; i++) {
        const here = i < length && differs(i, k);
        if (here) from ??= i;
        else if (from !== null) {
          lines.push(...line(from, i, k));
          from = null;
        }
      }
    }
  };
  along(
    wide,
    high,
    (x, y) => at(x, y) !== at(x, y - 1),
    (from, to, y) => [from, y, to, y],
  );
  along(
    high,
    wide,
    (y, x) => at(x, y) !== at(x - 1, y),
    (from, to, x) => [x, from, x, to],
  );
  return lines;
}

/** Lay a colour over pixels, RGBA, wherever a mask is. */
export function tint(pixels, bits, [red, green, blue], opacity) {
  bits.forEach((is, i) => {
    if (!is) return;
    const under = (pixels[4 * i + 3] / 255) * (1 - opacity);
    const all = opacity + under;
    [red, green, blue].forEach((value, c) => {
      pixels[4 * i + c] = (value * opacity + pixels[4 * i + c] * under) / all;
    });
    pixels[4 * i + 3] = 255 * all;
  });
}
