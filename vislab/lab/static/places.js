// Places: source pixels, model pixels, patches, tokens, and what tokens cost.

/** frame: {scale, offset} as (y, x), model = source·scale + offset. */
export const toModel = ({ scale, offset }, x, y) => [x * scale[1] + offset[1], y * scale[0] + offset[0]];
export const toSource = ({ scale, offset }, x, y) => [(x - offset[1]) / scale[1], (y - offset[0]) / scale[0]];

/** The patch over a point in source pixels -> [row, col], or null where the model saw nothing. */
export function cellAt(frame, grid, x, y) {
  const [mx, my] = toModel(frame, x, y);
  const row = Math.floor(my / grid.patch[0]);
  const col = Math.floor(mx / grid.patch[1]);
  return row >= 0 && row < grid.rows && col >= 0 && col < grid.cols ? [row, col] : null;
}

/** A patch's box in source pixels -> [x0, y0, x1, y1]. */
export function boxOf(frame, grid, row, col) {
  const [h, w] = grid.patch;
  return [...toSource(frame, col * w, row * h), ...toSource(frame, (col + 1) * w, (row + 1) * h)];
}

/** What the model sees of the photograph -> [x, y, width, height] in source pixels. */
export function seenBy(frame) {
  const [x0, y0] = toSource(frame, 0, 0);
  const [x1, y1] = toSource(frame, frame.model[1], frame.model[0]);
  return [x0, y0, x1 - x0, y1 - y0];
}

/** The grid and the frame of a heatmap, as Python tells them. */
export function placeOf({ grid: [rows, cols, high, wide, prefix], frame: [, model, scale, offset] }) {
  return { grid: { rows, cols, patch: [high, wide], prefix }, frame: { model, scale, offset } };
}

/** size: [height, width], patch: [height, width] px -> {rows, cols, tokens}. */
export function gridOf(size, patch, extra = 0) {
  const [rows, cols] = [0, 1].map((axis) => Math.floor(size[axis] / patch[axis]));
  return { rows, cols, tokens: rows * cols + extra };
}

/** q·kᵀ and weights·v: 4·n²·d operations a layer, a multiply-add counting 2. */
export const attentionFlops = (tokens, dim, layers) => 4 * tokens ** 2 * dim * layers;

/** Bytes of the n×n maps of all heads and layers in float32, as eager attention makes them. */
export const mapBytes = (tokens, heads, layers) => 4 * heads * tokens ** 2 * layers;

/** Attention, and 24·n·d² a layer for projections and an MLP four times as wide. */
export const forwardFlops = (tokens, dim, layers) =>
  attentionFlops(tokens, dim, layers) + 24 * tokens * dim ** 2 * layers;

/**
 * Labels moved up or down by as little as lets none hide another, the first staying where they are, as in figures.
 * labels: [left, top, right, bottom] of each. bottom: of the picture. Where no room is left, a label stays where it was.
 */
export function labelsApart(labels, bottom) {
  const placed = [];
  for (const [x0, y0, x1, y1] of labels) {
    const high = y1 - y0;
    const beside = placed.filter((other) => other[0] < x1 && x0 < other[2]);
    // It is free where it was, or right above or below a label that stands in its way.
    const tops = [y0, ...beside.map((other) => other[3]), ...beside.map((other) => other[1] - high)];
    const free = tops.filter(
      (top) =>
        top >= 0 &&
        top <= Math.max(y0, bottom - high) &&
        beside.every((other) => top >= other[3] || top + high <= other[1]),
    );
    const nearer = (best, top) => (Math.abs(top - y0) < Math.abs(best - y0) ? top : best);
    const top = free.reduce(nearer, free[0] ?? y0);
    placed.push([x0, top, x1, top + high]);
  }
  return placed;
}
