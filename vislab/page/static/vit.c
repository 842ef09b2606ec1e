// The forward of a Vision Transformer for WebAssembly: float32, four numbers at a time, no library.
//
// Widths are arguments of `configure`; `put` takes the weights one tensor at a time; `forward` runs them on patches;
// `classify` reads tokens of any layer as the head would (the lens); `walk` is attention rollout. Matrices are row by
// row, [rows][cols]. `make kernel` compiles it to vit.wasm; a test compiles it anew and compares byte for byte.
#include <wasm_simd128.h>

typedef unsigned int uint;
typedef v128_t four; // four floats

#define EXPORT(name) __attribute__((export_name(name)))
#define PANEL 8 // columns that a panel of weights holds side by side
#define ROWS 4  // rows of a product that are computed together
#define BLOCK 64 // rows that stay in the cache while panels stream by

// ---- memory: taken from the end, given back all at once ----

extern unsigned char __heap_base;
static uint top;

static uint round_up(uint n, uint step) { return (n + step - 1) / step * step; }

// Room for so many bytes, its address a multiple of 64; 0 where the browser has no more. May grow the memory, after
// which views that JavaScript holds are dead.
EXPORT("alloc") void *alloc(uint bytes) {
  if (!top) top = round_up((uint)&__heap_base, 64);
  uint start = top, end = top + round_up(bytes, 64), have = (uint)__builtin_wasm_memory_size(0) * 65536u;
  if (end < start) return 0;
  if (end > have && __builtin_wasm_memory_grow(0, round_up(end - have, 65536) / 65536) == (unsigned long)-1) return 0;
  top = end;
  return (void *)start;
}
EXPORT("mark") uint mark(void) { return top; }
EXPORT("release") void release(uint to) { top = to; }

static float *floats(uint count) { return alloc(count * sizeof(float)); }

// ---- four at a time ----

static four load(const float *p) { return wasm_v128_load(p); }
static void store(float *p, four v) { wasm_v128_store(p, v); }
static four all(float x) { return wasm_f32x4_splat(x); }
static four add(four a, four b) { return wasm_f32x4_add(a, b); }
static four sub(four a, four b) { return wasm_f32x4_sub(a, b); }
static four mul(four a, four b) { return wasm_f32x4_mul(a, b); }
static four mul_add(four a, four b, four c) { return add(mul(a, b), c); }
static float sum_of(four v) {
  return wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 1) + wasm_f32x4_extract_lane(v, 2) +
         wasm_f32x4_extract_lane(v, 3);
}
static float most_of(four v) {
  v = wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  return wasm_f32x4_extract_lane(wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2)), 0);
}

// e^x: 2^n times a polynomial of what is left (Cephes, expf); relative error 2e-7.
static four exponential(four x) {
  x = wasm_f32x4_min(wasm_f32x4_max(x, all(-87.33f)), all(88.37f));
  four n = wasm_f32x4_nearest(mul(x, all(1.44269504088896341f)));
  x = sub(sub(x, mul(n, all(0.693359375f))), mul(n, all(-2.12194440e-4f)));
  four y = all(1.9875691500e-4f);
  y = mul_add(y, x, all(1.3981999507e-3f));
  y = mul_add(y, x, all(8.3334519073e-3f));
  y = mul_add(y, x, all(4.1665795894e-2f));
  y = mul_add(y, x, all(1.6666665459e-1f));
  y = mul_add(y, x, all(5.0000001201e-1f));
  y = add(mul_add(y, mul(x, x), x), all(1));
  four power = wasm_i32x4_shl(wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(n), wasm_i32x4_splat(127)), 23);
  return mul(y, power);
}

// x·Φ(x), the exact GELU; erf by Abramowitz & Stegun 7.1.26, whose error is below 1.5e-7.
static four gelu(four x) {
  four z = mul(wasm_f32x4_abs(x), all(0.70710678118f));
  four t = wasm_f32x4_div(all(1), mul_add(z, all(0.3275911f), all(1)));
  four p = all(1.061405429f);
  p = mul_add(p, t, all(-1.453152027f));
  p = mul_add(p, t, all(1.421413741f));
  p = mul_add(p, t, all(-0.284496736f));
  p = mul_add(p, t, all(0.254829592f));
  four tail = mul(mul(mul(p, t), exponential(wasm_f32x4_neg(mul(z, z)))), all(0.5f)); // Φ(-|x|)
  return mul(x, wasm_v128_bitselect(tail, sub(all(1), tail), wasm_f32x4_lt(x, all(0))));
}

// ---- products: out = a·weights + bias + added ----

// One panel for `count` rows. a: [count][a_step], panel: [inner][PANEL], out: [count][out_step]; bias and added may be 0.
static inline __attribute__((always_inline)) void tile(int count, const float *a, uint a_step, const float *panel,
                                                       uint inner, float *out, uint out_step, const float *bias,
                                                       const float *added) {
  four left[ROWS], right[ROWS];
  four first = bias ? load(bias) : all(0), second = bias ? load(bias + 4) : all(0);
  for (int r = 0; r < count; r++) left[r] = first, right[r] = second;
  for (uint i = 0; i < inner; i++, panel += PANEL) {
    four w0 = load(panel), w1 = load(panel + 4);
    for (int r = 0; r < count; r++) {
      four x = wasm_v128_load32_splat(a + r * a_step + i);
      left[r] = mul_add(x, w0, left[r]);
      right[r] = mul_add(x, w1, right[r]);
    }
  }
  for (int r = 0; r < count; r++, out += out_step) {
    if (added) left[r] = add(left[r], load(added + r * out_step)), right[r] = add(right[r], load(added + r * out_step + 4));
    store(out, left[r]);
    store(out + 4, right[r]);
  }
}

// a: [rows][a_step], panels: [cols/PANEL][inner][PANEL], out and added: [rows][out_step]. cols: a multiple of PANEL.
static __attribute__((noinline)) void product(const float *a, uint a_step, uint rows, const float *panels, uint inner,
                                              uint cols, float *out, uint out_step, const float *bias,
                                              const float *added) {
  for (uint start = 0; start < rows; start += BLOCK) {
    uint end = start + BLOCK < rows ? start + BLOCK : rows;
    for (uint j = 0; j < cols; j += PANEL) {
      const float *panel = panels + j * inner, *b = bias ? bias + j : 0;
      uint r = start;
      for (; r + ROWS <= end; r += ROWS)
        tile(ROWS, a + r * a_step, a_step, panel, inner, out + r * out_step + j, out_step, b,
             added ? added + r * out_step + j : 0);
      for (; r < end; r++)
        tile(1, a + r * a_step, a_step, panel, inner, out + r * out_step + j, out_step, b,
             added ? added + r * out_step + j : 0);
    }
  }
}

// ---- the model ----

// In the order in which `put` numbers them.
typedef struct {
  const float *norm1, *norm1_bias, *qkv, *qkv_bias, *out, *out_bias;
  const float *norm2, *norm2_bias, *up, *up_bias, *down, *down_bias;
} Layer;
typedef struct {
  const float *patch, *patch_bias, *cls, *norm, *norm_bias, *head, *head_bias;
} Ends; // before the first layer, and after the last

static Layer *layer;
static Ends ends;
static uint dim, layers, heads, head_dim, hidden, pixels, classes; // pixels: numbers in a patch; classes: with padding
static float epsilon, root;                                        // root: 1 / sqrt(head_dim)

// The widths of a model, before its weights. Returns 0, or 1 where they are none that this kernel computes.
EXPORT("configure")
int configure(uint dim_, uint layers_, uint heads_, uint hidden_, uint pixels_, uint classes_, float epsilon_) {
  if (!heads_ || dim_ % (heads_ * PANEL) || hidden_ % PANEL || !layers_ || !classes_) return 1;
  dim = dim_, layers = layers_, heads = heads_, head_dim = dim / heads, hidden = hidden_, pixels = pixels_;
  classes = round_up(classes_, PANEL), epsilon = epsilon_, root = 1 / __builtin_sqrtf(head_dim);
  layer = alloc(layers * sizeof(Layer));
  return !layer;
}

// One tensor. at: a layer, or `layers` for the ends; which: its place in Layer or Ends; from: [rows][cols]; cols: 0 for
// a vector. Matrices become panels. Returns 0, or 1 where there is no more memory.
EXPORT("put") int put(uint at, uint which, const float *from, uint rows, uint cols) {
  uint room = round_up(rows, PANEL), inner = cols ? cols : 1;
  float *to = floats(room * inner);
  if (!to) return 1;
  for (uint i = 0; i < room * inner; i++) to[i] = 0;
  for (uint r = 0; r < rows; r++)
    for (uint c = 0; c < inner; c++) to[(r / PANEL * inner + c) * PANEL + r % PANEL] = from[r * inner + c];
  const float **table = at < layers ? (const float **)&layer[at] : (const float **)&ends;
  table[which] = to;
  return 0;
}

static void normalise(const float *x, uint rows, const float *weight, const float *bias, float *y) {
  for (uint r = 0; r < rows; r++, x += dim, y += dim) {
    four sum = all(0), squares = all(0);
    for (uint i = 0; i < dim; i += 4) sum = add(sum, load(x + i));
    four mean = all(sum_of(sum) / dim);
    for (uint i = 0; i < dim; i += 4) {
      four d = sub(load(x + i), mean);
      squares = add(squares, mul(d, d));
    }
    four by = all(1 / __builtin_sqrtf(sum_of(squares) / dim + epsilon));
    for (uint i = 0; i < dim; i += 4)
      store(y + i, mul_add(mul(sub(load(x + i), mean), by), load(weight + i), load(bias + i)));
  }
}

// Softmax of each row, in place. room: the length of a row in memory, a multiple of PANEL; what is over becomes 0.
static void softmax(float *rows, uint count, uint length, uint room) {
  for (float *row = rows; row < rows + count * room; row += room) {
    for (uint j = length; j < room; j++) row[j] = -1e30f;
    four most = all(-1e30f), sum = all(0);
    for (uint j = 0; j < room; j += 4) most = wasm_f32x4_max(most, load(row + j));
    most = all(most_of(most));
    for (uint j = 0; j < room; j += 4) {
      four e = exponential(sub(load(row + j), most));
      store(row + j, e);
      sum = add(sum, e);
    }
    four by = all(1 / sum_of(sum));
    for (uint j = 0; j < room; j += 4) store(row + j, mul(load(row + j), by));
    for (uint j = length; j < room; j++) row[j] = 0;
  }
}

// Keys of a head, [tokens][head_dim], as panels of q·kᵀ: [tokens/PANEL][head_dim][PANEL].
static void transpose(const float *keys, uint tokens, float *panels) {
  for (uint i = 0; i < round_up(tokens, PANEL); i++)
    for (uint d = 0; d < head_dim; d++)
      panels[(i / PANEL * head_dim + d) * PANEL + i % PANEL] = i < tokens ? keys[i * head_dim + d] : 0;
}

// Room for the attention of one head: keys and values as panels, and a block of rows.
typedef struct {
  float *keys, *values, *rows;
} Bench;

// One head. qkv: [tokens][3·dim] at this head's queries; q, k: its queries, scaled, and keys, kept; out: [tokens][dim].
static void attend(const float *qkv, uint tokens, float scale, float *q, float *k, float *out, Bench bench) {
  uint room = round_up(tokens, PANEL);
  for (uint i = 0; i < tokens; i++, qkv += 3 * dim)
    for (uint d = 0; d < head_dim; d += 4) {
      store(q + i * head_dim + d, mul(load(qkv + d), all(scale * root)));
      store(k + i * head_dim + d, load(qkv + dim + d));
      store(bench.values + (d / PANEL * tokens + i) * PANEL + d % PANEL, load(qkv + 2 * dim + d));
    }
  transpose(k, tokens, bench.keys);
  for (uint start = 0; start < tokens; start += BLOCK) {
    uint count = tokens - start < BLOCK ? tokens - start : BLOCK;
    product(q + start * head_dim, head_dim, count, bench.keys, head_dim, room, bench.rows, room, 0, 0);
    softmax(bench.rows, count, tokens, room);
    product(bench.rows, room, count, bench.values, tokens, head_dim, out + start * dim, dim, 0, 0);
  }
}

// x + MLP(norm(x + attention(norm(x)))). q, k: [heads][tokens][head_dim] of this layer; next: x after it.
static void step(const Layer *w, const float *x, uint tokens, const float *scale, const float *on, float *q, float *k,
                 float *next, float *y, float *wide, float *joined, Bench bench) {
  normalise(x, tokens, w->norm1, w->norm1_bias, y);
  product(y, dim, tokens, w->qkv, dim, 3 * dim, wide, 3 * dim, w->qkv_bias, 0);
  for (uint h = 0; h < heads; h++) {
    uint kept = h * tokens * head_dim;
    attend(wide + h * head_dim, tokens, scale[h], q + kept, k + kept, joined + h * head_dim, bench);
    for (uint i = 0; i < tokens; i++)
      for (uint d = 0; d < head_dim; d += 4) {
        float *o = joined + i * dim + h * head_dim + d;
        store(o, mul(load(o), all(on[h])));
      }
  }
  product(joined, dim, tokens, w->out, dim, dim, next, dim, w->out_bias, x);
  normalise(next, tokens, w->norm2, w->norm2_bias, y);
  product(y, dim, tokens, w->up, dim, hidden, wide, hidden, w->up_bias, 0);
  for (uint i = 0; i < tokens * hidden; i += 4) store(wide + i, gelu(load(wide + i)));
  product(wide, hidden, tokens, w->down, hidden, dim, next, dim, w->down_bias, next);
}

// What the head makes of tokens, x: [rows][dim] -> logits [rows][classes, with padding to a multiple of 8]. Returns 0,
// or 1 where there is no more memory.
EXPORT("classify") int classify(uint rows, const float *x, float *logits) {
  uint before = top;
  float *y = floats(rows * dim);
  if (!y) return 1;
  normalise(x, rows, ends.norm, ends.norm_bias, y);
  product(y, dim, rows, ends.head, dim, classes, logits, classes, ends.head_bias, 0);
  release(before);
  return 0;
}

static Bench bench_for(uint tokens) {
  uint room = round_up(tokens, PANEL);
  Bench bench = {floats(head_dim * room), floats(tokens * head_dim), floats(BLOCK * room)};
  return bench;
}

// One forward. patches: [n][pixels]; positions: [n][dim]; scale: the factor of q·k, on: that of a head's output, both
// [layers][heads]. With tokens = n + 1, CLS the first: q, k: [layers][heads][tokens][head_dim], softmax(q·kᵀ) is the
// attention; states: [layers + 1][tokens][dim]. Returns 0, or 1 where there is no more memory.
EXPORT("forward")
int forward(uint n, const float *patches, const float *positions, const float *scale, const float *on, float *q,
            float *k, float *states) {
  uint before = top, tokens = n + 1, size = tokens * dim, wide_dim = hidden > 3 * dim ? hidden : 3 * dim;
  float *y = floats(size), *joined = floats(size), *wide = floats(tokens * wide_dim);
  Bench bench = bench_for(tokens);
  int full = !y || !joined || !wide || !bench.keys || !bench.values || !bench.rows;
  if (!full) {
    for (uint i = 0; i < dim; i++) states[i] = ends.cls[i];
    product(patches, pixels, n, ends.patch, pixels, dim, states + dim, dim, ends.patch_bias, positions);
    for (uint l = 0; l < layers; l++)
      step(&layer[l], states + l * size, tokens, scale + l * heads, on + l * heads, q + l * size, k + l * size,
           states + (l + 1) * size, y, wide, joined, bench);
  }
  release(before);
  return full;
}

// Attention rollout (Abnar & Zuidema 2020) from layer `last` to the first, exactly and one block of rows at a time:
// row becomes row·(½·A + ½·I) at each, A the mean of the heads. q, k: as `forward` leaves them; row: [tokens], in and
// out. Returns 0, or 1 where there is no more memory.
EXPORT("walk") int walk(uint tokens, const float *q, const float *k, uint last, float *row) {
  uint before = top, room = round_up(tokens, PANEL);
  Bench bench = bench_for(tokens);
  float *next = floats(tokens);
  int full = !bench.keys || !bench.values || !bench.rows || !next;
  for (uint l = last + 1; !full && l-- > 0;) {
    for (uint j = 0; j < tokens; j++) next[j] = 0.5f * row[j];
    for (uint h = 0; h < heads; h++) {
      uint kept = (l * heads + h) * tokens * head_dim;
      transpose(k + kept, tokens, bench.keys);
      for (uint start = 0; start < tokens; start += BLOCK) {
        uint count = tokens - start < BLOCK ? tokens - start : BLOCK;
        product(q + kept + start * head_dim, head_dim, count, bench.keys, head_dim, room, bench.rows, room, 0, 0);
        softmax(bench.rows, count, tokens, room);
        for (uint r = 0; r < count; r++)
          for (uint j = 0; j < tokens; j++) next[j] += 0.5f / heads * row[start + r] * bench.rows[r * room + j];
      }
    }
    for (uint j = 0; j < tokens; j++) row[j] = next[j];
  }
  release(before);
  return full;
}
