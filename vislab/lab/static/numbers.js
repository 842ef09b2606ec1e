// Attention, computed here: rows and columns of it from queries and keys, heads fused, entropy.

/** A buffer (ArrayBuffer or view of one) as a typed array of its own, whatever its alignment was. */
export function typed(bytes, Type) {
  const view = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
  return new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function dot(a, i, b, j, dim) {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let d = 0;
  for (; d + 3 < dim; d += 4) {
    s0 += a[i + d] * b[j + d];
    s1 += a[i + d + 1] * b[j + d + 1];
    s2 += a[i + d + 2] * b[j + d + 2];
    s3 += a[i + d + 3] * b[j + d + 3];
  }
  for (; d < dim; d++) s0 += a[i + d] * b[j + d];
  return s0 + s1 + s2 + s3;
}

/**
 * What one token attends to: softmaxⱼ(factor · qᵢ·kⱼ + addedⱼ) of every head. q, k: [heads, tokens, dim]; added: [tokens]
 * or null -> [heads, tokens].
 */
export function attentionRow({ q, k, added, heads, tokens, dim }, token, factor = 1) {
  const out = new Float32Array(heads * tokens);
  for (let h = 0; h < heads; h++) {
    const start = h * tokens;
    const own = (start + token) * dim;
    let top = -Infinity;
    let sum = 0;
    for (let j = start; j < start + tokens; j++) {
      const logit = factor * dot(q, own, k, j * dim, dim) + (added?.[j - start] ?? 0);
      out[j] = logit;
      if (logit > top) top = logit;
    }
    for (let j = start; j < start + tokens; j++) sum += out[j] = Math.exp(out[j] - top);
    for (let j = start; j < start + tokens; j++) out[j] /= sum;
  }
  return out;
}

/** Who attends to one token: exp(qᵢ·kⱼ + addedⱼ − sumᵢ) for every i. sums: of every row, [heads, tokens]. */
export function attentionColumn({ q, k, added, sums, heads, tokens, dim }, token) {
  const out = new Float32Array(heads * tokens);
  for (let h = 0; h < heads; h++) {
    const own = (h * tokens + token) * dim;
    const more = added?.[token] ?? 0;
    for (let i = h * tokens; i < (h + 1) * tokens; i++)
      out[i] = Math.exp(dot(q, i * dim, k, own, dim) + more - sums[i]);
  }
  return out;
}

/** log Σⱼ exp(qᵢ·kⱼ + addedⱼ) of every row -> [heads, tokens]. */
export function logSums({ q, k, added, heads, tokens, dim }) {
  const out = new Float32Array(heads * tokens);
  const logits = new Float64Array(tokens);
  for (let i = 0; i < out.length; i++) {
    const start = i - (i % tokens);
    let top = -Infinity;
    let sum = 0;
    for (let j = 0; j < tokens; j++) {
      logits[j] = dot(q, i * dim, k, (start + j) * dim, dim) + (added?.[j] ?? 0);
      if (logits[j] > top) top = logits[j];
    }
    for (let j = 0; j < tokens; j++) sum += Math.exp(logits[j] - top);
    out[i] = top + Math.log(sum);
  }
  return out;
}

/**
 * Queries and keys that came as whole numbers. parts: [[bytes, channels], …], for each a buffer of q and one of k,
 * [heads, tokens, channels]; after them steps, [heads, all channels]: q·k = Σ steps·q·k.
 */
export function unpacked(parts, buffers, heads, tokens) {
  const dim = parts.reduce((sum, [, channels]) => sum + channels, 0);
  const steps = typed(buffers[2 * parts.length], Float32Array);
  const q = new Float32Array(heads * tokens * dim);
  const k = new Float32Array(q.length);
  let first = 0;
  parts.forEach(([bytes, channels], part) => {
    const [from, to] = [0, 1].map((i) => typed(buffers[2 * part + i], bytes === 2 ? Int16Array : Int8Array));
    for (let row = 0, i = 0; row < heads * tokens; row++) {
      const o = row * dim + first;
      const step = Math.floor(row / tokens) * dim + first;
      for (let c = 0; c < channels; c++, i++) {
        q[o + c] = from[i] * steps[step + c];
        k[o + c] = to[i];
      }
    }
    first += channels;
  });
  return { q, k, heads, tokens, dim };
}

/** [heads, tokens] -> [tokens]: one head, or all of them by "mean", "max", "min". */
export function fuse(rows, heads, tokens, head) {
  if (typeof head === "number") {
    const start = ((head + heads) % heads) * tokens;
    return rows.slice(start, start + tokens);
  }
  const out = rows.slice(0, tokens);
  for (let h = 1; h < heads; h++) {
    for (let j = 0; j < tokens; j++) {
      const v = rows[h * tokens + j];
      if (head === "mean") out[j] += v;
      else if (head === "max" ? v > out[j] : v < out[j]) out[j] = v;
    }
  }
  if (head === "mean") for (let j = 0; j < tokens; j++) out[j] /= heads;
  return out;
}

/** −Σ p·log₂ p, bits. */
export function entropyBits(row) {
  let bits = 0;
  for (const p of row) if (p > 0) bits -= p * Math.log2(p);
  return bits;
}
