// A photograph as the numbers that a model takes: resized, cut into patches, and the positions of these.

/** The weights of a triangle filter, antialiased as Pillow and torch have it -> for each new pixel [first, weights]. */
function taps(from, to) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const last = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = [];
    for (let j = first; j < last; j++) weights.push(Math.max(0, 1 - Math.abs((j + 0.5 - centre) / reach)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return [first, weights.map((w) => w / sum)];
  });
}

/**
 * A resize that takes its rows a strip at a time, so that a large photograph is never whole in memory: `add` strips from
 * the top, RGBA, then `done` gives RGB, side × side.
 */
export function resizer(width, height, side) {
  const across = taps(width, side);
  const down = taps(height, side);
  const middle = new Uint8ClampedArray(height * side * 3);
  const add = (rgba, top, rows) => {
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < side; x++) {
        const [first, weights] = across[x];
        let [r, g, b] = [0, 0, 0];
        for (let j = 0, o = (y * width + first) * 4; j < weights.length; j++, o += 4) {
          const w = weights[j];
          r += rgba[o] * w;
          g += rgba[o + 1] * w;
          b += rgba[o + 2] * w;
        }
        const o = ((top + y) * side + x) * 3;
        middle[o] = Math.floor(r + 0.5);
        middle[o + 1] = Math.floor(g + 0.5);
        middle[o + 2] = Math.floor(b + 0.5);
      }
    }
  };
  const done = () => {
    const rgb = new Uint8ClampedArray(side * side * 3);
    for (let y = 0; y < side; y++) {
      const [first, weights] = down[y];
      for (let x = 0; x < side * 3; x++) {
        let value = 0;
        for (let j = 0; j < weights.length; j++) value += middle[(first + j) * side * 3 + x] * weights[j];
        rgb[y * side * 3 + x] = Math.floor(value + 0.5);
      }
    }
    return rgb;
  };
  return { add, done };
}

/**
 * Patches of any size as a kernel for patches of its own size wants them. rgb: [side, side, 3]; rows: [own, patch],
 * the pseudo-inverse of a resize in one direction, or null for the kernel's own size; out: [n, 3 · own²].
 *
 * What PI-resize (Beyer et al. 2023) does to the kernel is done to the pixels: ⟨P·K·Pᵀ, x⟩ = ⟨K, Pᵀ·x·P⟩.
 */
export function patchesOf(rgb, { side, patch: own, mean, deviation }, patch, rows, out) {
  const matrix = rows && Float32Array.from(rows);
  const across = Math.floor(side / patch);
  const shades = [0, 1, 2].map((c) =>
    Float32Array.from({ length: 256 }, (_, v) => (Math.fround(v / 255) - mean[c]) / deviation[c]),
  );
  const half = new Float32Array(own * patch);
  const cut = new Float32Array(patch * patch);
  let o = 0;
  for (let n = 0; n < across * across; n++) {
    const start = (Math.floor(n / across) * patch * side + (n % across) * patch) * 3;
    for (let c = 0; c < 3; c++) {
      for (let y = 0, i = 0; y < patch; y++) {
        for (let x = 0, at = start + y * side * 3 + c; x < patch; x++, at += 3) cut[i++] = shades[c][rgb[at]];
      }
      if (matrix) resampled(cut, patch, matrix, own, half, out, o);
      else out.set(cut, o);
      o += own * own;
    }
  }
  return out;
}

/** matrix · cut · matrixᵀ, written into out from `o`. cut: [patch, patch], matrix: [own, patch], half: room for both. */
function resampled(cut, patch, matrix, own, half, out, o) {
  half.fill(0);
  for (let a = 0; a < own; a++) {
    for (let y = 0; y < patch; y++) {
      const w = matrix[a * patch + y];
      for (let x = 0; x < patch; x++) half[a * patch + x] += w * cut[y * patch + x];
    }
  }
  for (let a = 0; a < own; a++) {
    for (let b = 0; b < own; b++) {
      let sum = 0;
      for (let x = 0; x < patch; x++) sum += matrix[b * patch + x] * half[a * patch + x];
      out[o + a * own + b] = sum;
    }
  }
}

/** Positions of another grid: matrix [new, old] in both directions, or null for the model's own. [old², dim] -> [new², dim]. */
export function positionsOf(positions, dim, old, now, matrix) {
  if (!matrix) return positions;
  const rows = new Float32Array(now * old * dim);
  const out = new Float32Array(now * now * dim);
  for (let a = 0; a < now; a++) {
    for (let i = 0; i < old; i++) {
      const w = matrix[a * old + i];
      for (let e = 0; w && e < old * dim; e++) rows[a * old * dim + e] += w * positions[i * old * dim + e];
    }
  }
  for (let a = 0; a < now; a++) {
    for (let b = 0; b < now; b++) {
      const o = (a * now + b) * dim;
      for (let j = 0; j < old; j++) {
        const w = matrix[b * old + j];
        for (let e = 0; w && e < dim; e++) out[o + e] += w * rows[(a * old + j) * dim + e];
      }
    }
  }
  return out;
}
