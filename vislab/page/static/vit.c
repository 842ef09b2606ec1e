// The forward of a Vision Transformer for WebAssembly: float32, four numbers at a time, no library.
//
// Widths are arguments of `configure`; `put` takes the weights one tensor at a time; `embed` makes tokens of patches and
// `forward` runs the layers on them. It leaves the states of tokens, from which all else is computed when it is asked
// for: `look` gives queries and keys of a layer, `classify` reads tokens as the head would (the lens), `walk` is
// attention rollout. Matrices are row by row, [rows][cols]; those of 8 bits stay so in memory. `make kernel` compiles it
// to vit.wasm; a test compiles it anew and compares byte for byte.
#include "products.h"

// In the order in which `put` numbers them; of a vector there are values alone.
typedef struct {
  Matrix norm1, norm1_bias, qkv, qkv_bias, out, out_bias;
  Matrix norm2, norm2_bias, up, up_bias, down, down_bias;
} Layer;
typedef struct {
  Matrix patch, patch_bias, cls, norm, norm_bias, head, head_bias;
} Ends; // before the first layer, and after the last

static Layer *layer;
static Ends ends;
static uint dim, layers, heads, head_dim, hidden, pixels, classes; // pixels: numbers in a patch; classes: with padding
static float epsilon, root;                                        // root: 1 / sqrt(head_dim)

static uint larger(uint a, uint b) { return a > b ? a : b; }

// The widths of a model, before its weights. Returns 0, or 1 where they are none that this kernel computes.
EXPORT("configure")
int configure(uint dim_, uint layers_, uint heads_, uint hidden_, uint pixels_, uint classes_, float epsilon_) {
  if (!heads_ || dim_ % (heads_ * PANEL) || hidden_ % PANEL || !layers_ || !classes_) return 1;
  dim = dim_, layers = layers_, heads = heads_, head_dim = dim / heads, hidden = hidden_, pixels = pixels_;
  classes = round_up(classes_, PANEL), epsilon = epsilon_, root = 1 / __builtin_sqrtf(head_dim);
  layer = alloc(layers * sizeof(Layer));
  widened = floats(larger(larger(dim, hidden), pixels) * PANEL);
  return !layer || !widened;
}

// One tensor. at: a layer, or `layers` for the ends; which: its place in Layer or Ends; from: [rows][cols], floats, or
// numbers of 8 bits with steps, [rows]; cols: 0 for a vector; steps: 0 for floats. Matrices become panels. Returns 0,
// or 1 where there is no more memory.
EXPORT("put") SMALL int put(uint at, uint which, const void *from, uint rows, uint cols, const float *steps) {
  uint room = round_up(rows, PANEL), inner = cols ? cols : 1, size = steps ? 1 : sizeof(float);
  unsigned char *to = alloc(room * inner * size);
  float *by = steps ? floats(room) : 0;
  if (!to || (steps && !by)) return 1;
  for (uint r = 0; r < room; r++) {
    if (by) by[r] = r < rows ? steps[r] : 0;
    for (uint c = 0; c < inner; c++) {
      uint place = (r / PANEL * inner + c) * PANEL + r % PANEL, own = r * inner + c;
      if (steps) ((signed char *)to)[place] = r < rows ? ((const signed char *)from)[own] : 0;
      else ((float *)to)[place] = r < rows ? ((const float *)from)[own] : 0;
    }
  }
  Matrix *table = at < layers ? (Matrix *)&layer[at] : (Matrix *)&ends;
  table[which] = (Matrix){(const float *)to, (const signed char *)to, by};
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

// Room for a layer: queries, keys and values of all tokens; of a block of tokens what lies between them.
typedef struct {
  float *q, *keys, *values;       // [heads][tokens][head_dim], keys and values as panels
  float *y, *wide, *joined, *rows; // normalised; of the three or of the MLP; of all heads; of attention
} Bench;

static SMALL int bench_for(uint tokens, Bench *b) {
  uint room = round_up(tokens, PANEL);
  b->q = floats(tokens * dim), b->keys = floats(room * dim), b->values = floats(tokens * dim);
  b->y = floats(BLOCK * dim), b->wide = floats(BLOCK * larger(hidden, 3 * dim));
  b->joined = floats(BLOCK * dim), b->rows = floats(BLOCK * room);
  return !b->q || !b->keys || !b->values || !b->y || !b->wide || !b->joined || !b->rows;
}

// Where a number of a token stands in the keys of a head: they are panels of q·kᵀ, [tokens/PANEL][head_dim][PANEL].
static uint key_at(uint token, uint d) { return (token / PANEL * head_dim + d) * PANEL + token % PANEL; }

static uint block_at(uint start, uint tokens) { return tokens - start < BLOCK ? tokens - start : BLOCK; }

// Queries, times scale, and keys of all heads; values too where parts is 3, not 2. x: [tokens][dim]; scale: [heads].
static void project(const Layer *w, const float *x, uint tokens, const float *scale, uint parts, Bench b) {
  uint room = round_up(tokens, PANEL), step = parts * dim;
  for (uint start = 0; start < tokens; start += BLOCK) {
    uint count = block_at(start, tokens);
    normalise(x + start * dim, count, w->norm1.values, w->norm1_bias.values, b.y);
    product(b.y, dim, count, w->qkv, dim, step, b.wide, step, w->qkv_bias.values, 0);
    for (uint h = 0; h < heads; h++)
      for (uint r = 0; r < count; r++)
        for (uint d = 0; d < head_dim; d += 4) {
          const float *from = b.wide + r * step + h * head_dim + d;
          uint token = start + r, panel = h * head_dim / PANEL + d / PANEL;
          store(b.q + (h * tokens + token) * head_dim + d, mul(load(from), all(scale[h] * root)));
          for (uint i = 0; i < 4; i++) b.keys[h * room * head_dim + key_at(token, d + i)] = from[dim + i];
          if (parts > 2) store(b.values + (panel * tokens + token) * PANEL + d % PANEL, load(from + 2 * dim));
        }
  }
}

// Rows of attention of a block of tokens in one head, in b.rows: [count][tokens, rounded up].
static void attend(uint h, uint start, uint count, uint tokens, Bench b) {
  uint room = round_up(tokens, PANEL);
  Matrix keys = {b.keys + h * room * head_dim, 0, 0};
  product(b.q + (h * tokens + start) * head_dim, head_dim, count, keys, head_dim, room, b.rows, room, 0, 0);
  softmax(b.rows, count, tokens, room);
}

// x + MLP(norm(x + attention(norm(x)))). x: the state before the layer; next: that after it; on: [heads]; cls: the
// attention of the first token, [heads][tokens].
static void step(const Layer *w, const float *x, uint tokens, const float *scale, const float *on, float *next,
                 float *cls, Bench b) {
  uint room = round_up(tokens, PANEL);
  project(w, x, tokens, scale, 3, b);
  for (uint start = 0; start < tokens; start += BLOCK) {
    uint count = block_at(start, tokens);
    float *to = next + start * dim;
    for (uint h = 0; h < heads; h++) {
      Matrix values = {b.values + h * tokens * head_dim, 0, 0};
      attend(h, start, count, tokens, b);
      if (!start) __builtin_memcpy(cls + h * tokens, b.rows, tokens * sizeof(float));
      product(b.rows, room, count, values, tokens, head_dim, b.joined + h * head_dim, dim, 0, 0);
      for (uint r = 0; r < count; r++)
        for (uint d = 0; d < head_dim; d += 4) {
          float *o = b.joined + r * dim + h * head_dim + d;
          store(o, mul(load(o), all(on[h])));
        }
    }
    product(b.joined, dim, count, w->out, dim, dim, to, dim, w->out_bias.values, x + start * dim);
    normalise(to, count, w->norm2.values, w->norm2_bias.values, b.y);
    product(b.y, dim, count, w->up, dim, hidden, b.wide, hidden, w->up_bias.values, 0);
    for (uint i = 0; i < count * hidden; i += 4) store(b.wide + i, gelu(load(b.wide + i)));
    product(b.wide, hidden, count, w->down, hidden, dim, to, dim, w->down_bias.values, to);
  }
}

// Tokens of patches, CLS the first. patches: [n][pixels]; positions: [n][dim]; states: the first, [n + 1][dim].
EXPORT("embed") void embed(uint n, const float *patches, const float *positions, float *states) {
  __builtin_memcpy(states, ends.cls.values, dim * sizeof(float));
  product(patches, pixels, n, ends.patch, pixels, dim, states + dim, dim, ends.patch_bias.values, positions);
}

// All layers. states: [layers + 1][tokens][dim], the first as `embed` leaves it; scale: the factor of q·k, on: that of
// a head's output, both [layers][heads]; cls: attention of the first token, [layers][heads][tokens]. Returns 0, or 1
// where there is no more memory.
EXPORT("forward")
int forward(uint tokens, float *states, const float *scale, const float *on, float *cls) {
  uint before = top, size = tokens * dim;
  Bench b;
  int full = bench_for(tokens, &b);
  for (uint l = 0; !full && l < layers; l++)
    step(&layer[l], states + l * size, tokens, scale + l * heads, on + l * heads, states + (l + 1) * size,
         cls + l * heads * tokens, b);
  release(before);
  return full;
}

// What the head makes of tokens, x: [rows][dim] -> logits [rows][classes, with padding to a multiple of 8]. Returns 0,
// or 1 where there is no more memory.
EXPORT("classify") int classify(uint rows, const float *x, float *logits) {
  uint before = top;
  float *y = floats(rows * dim);
  if (y) {
    normalise(x, rows, ends.norm.values, ends.norm_bias.values, y);
    product(y, dim, rows, ends.head, dim, classes, logits, classes, ends.head_bias.values, 0);
  }
  release(before);
  return !y;
}

// Queries, times scale, and keys of layer `at`. x: the state before it, [tokens][dim]; scale: [heads]; q, k:
// [heads][tokens][head_dim], softmax(q·kᵀ) is the attention. Returns 0, or 1 where there is no more memory.
EXPORT("look") SMALL int look(uint tokens, const float *x, uint at, const float *scale, float *q, float *k) {
  uint before = top, room = round_up(tokens, PANEL);
  Bench b;
  int full = bench_for(tokens, &b);
  if (!full) {
    project(&layer[at], x, tokens, scale, 2, b);
    __builtin_memcpy(q, b.q, tokens * dim * sizeof(float));
    for (uint h = 0; h < heads; h++)
      for (uint i = 0; i < tokens; i++)
        for (uint d = 0; d < head_dim; d++) *k++ = b.keys[h * room * head_dim + key_at(i, d)];
  }
  release(before);
  return full;
}

// Attention rollout (Abnar & Zuidema 2020) from layer `last` to the first, exactly and one block of rows at a time:
// row becomes row·(½·A + ½·I) at each, A the mean of the heads. states, scale: as of `forward`; row: [tokens], in and
// out. Returns 0, or 1 where there is no more memory.
EXPORT("walk") int walk(uint tokens, const float *states, const float *scale, uint last, float *row) {
  uint before = top, room = round_up(tokens, PANEL);
  Bench b;
  float *next = floats(tokens);
  int full = bench_for(tokens, &b) || !next;
  for (uint l = last + 1; !full && l-- > 0;) {
    project(&layer[l], states + l * tokens * dim, tokens, scale + l * heads, 2, b);
    for (uint j = 0; j < tokens; j++) next[j] = 0.5f * row[j];
    for (uint h = 0; h < heads; h++)
      for (uint start = 0; start < tokens; start += BLOCK) {
        uint count = block_at(start, tokens);
        attend(h, start, count, tokens, b);
        for (uint r = 0; r < count; r++)
          for (uint j = 0; j < tokens; j++) next[j] += 0.5f / heads * row[start + r] * b.rows[r * room + j];
      }
    for (uint j = 0; j < tokens; j++) row[j] = next[j];
  }
  release(before);
  return full;
}
