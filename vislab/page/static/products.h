// What the kernel computes with: memory, numbers four at a time, and products of matrices.
#include <wasm_simd128.h>

typedef unsigned int uint;
typedef v128_t four; // four floats

#define EXPORT(name) __attribute__((export_name(name)))
#define SMALL __attribute__((minsize)) // of functions that take little of the time
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

// A matrix as panels, [cols/PANEL][inner][PANEL]: floats, or numbers of 8 bits and a step for each column.
typedef struct {
  const float *values;
  const signed char *numbers;
  const float *steps; // 0 where there are floats
} Matrix;

static float *widened; // room for a panel

// A panel of 8 bits as floats, in `widened`.
static const float *widen(const signed char *numbers, const float *steps, uint inner) {
  four left = load(steps), right = load(steps + 4);
  for (uint i = 0; i < inner; i++, numbers += PANEL) {
    v128_t eight = wasm_i16x8_load8x8(numbers);
    store(widened + i * PANEL, mul(wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(eight)), left));
    store(widened + i * PANEL + 4, mul(wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(eight)), right));
  }
  return widened;
}

// a: [rows][a_step]; out and added: [rows][out_step]. cols: how many columns of the matrix, a multiple of PANEL.
static __attribute__((noinline)) void product(const float *a, uint a_step, uint rows, Matrix w, uint inner, uint cols,
                                              float *out, uint out_step, const float *bias, const float *added) {
  for (uint start = 0; start < rows; start += BLOCK) {
    uint end = start + BLOCK < rows ? start + BLOCK : rows;
    for (uint j = 0; j < cols; j += PANEL) {
      const float *panel = w.steps ? widen(w.numbers + j * inner, w.steps + j, inner) : w.values + j * inner;
      const float *b = bias ? bias + j : 0;
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
