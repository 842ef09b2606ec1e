// The regions of tokens on the photograph: in its own colours, with edges; what was dropped is dark.

import { make } from "./elements.js";
import { toSource } from "./places.js";
import { NO_TOKEN, ownersAt, regionColours } from "./tokens.js";

const FADED = "rgb(0 0 0 / 0.55)";

/** The tokens of a layer over the photograph, and where `at` lies between two layers, of both. */
export function drawRegions(store, context, shown, at, canvas, unit) {
  const { grid, frame } = shown;
  const colours = cellColours(store, shown);
  const [low, high] = [Math.floor(at), Math.ceil(at)];
  const share = at - low;
  const [from, to] = [low, high].map((layer) => regionColours(colours, ownersAt(shown, layer)));
  const pixels = new ImageData(grid.cols, grid.rows);
  for (let i = 0; i < grid.rows * grid.cols; i++) {
    const mixed = [0, 1, 2].map((c) => from[3 * i + c] * (1 - share) + to[3 * i + c] * share);
    pixels.data.set([...mixed, 255], 4 * i);
  }
  Object.assign(canvas, { width: grid.cols, height: grid.rows });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const [x0, y0] = toSource(frame, 0, 0);
  const [x1, y1] = toSource(frame, grid.cols * grid.patch[1], grid.rows * grid.patch[0]);
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, x0, y0, x1 - x0, y1 - y0);
  edgeLines(context, frame, grid, ownersAt(shown, low), unit, 1 - share);
  if (share) edgeLines(context, frame, grid, ownersAt(shown, high), unit, share);
}

/** Lines where one token's patches end and another's begin. */
export function edgeLines(context, frame, grid, owners, unit, opacity = 0.75) {
  const { rows, cols, patch } = grid;
  const point = (row, col) => toSource(frame, col * patch[1], row * patch[0]);
  context.beginPath();
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const own = owners[row * cols + col];
      if (!col || owners[row * cols + col - 1] !== own) {
        context.moveTo(...point(row, col));
        context.lineTo(...point(row + 1, col));
      }
      if (!row || owners[(row - 1) * cols + col] !== own) {
        context.moveTo(...point(row, col));
        context.lineTo(...point(row, col + 1));
      }
    }
  }
  context.lineWidth = unit;
  context.strokeStyle = `rgb(255 255 255 / ${0.65 * opacity})`;
  context.stroke();
}

/** Patches that a layer no longer has lie in the dark. */
export function fadeDropped(context, { frame, grid, ...shown }, layer) {
  const owners = ownersAt({ grid, ...shown }, layer);
  if (!owners.includes(NO_TOKEN)) return;
  const [high, wide] = grid.patch;
  context.beginPath();
  owners.forEach((token, i) => {
    if (token !== NO_TOKEN) return;
    const [row, col] = [Math.floor(i / grid.cols), i % grid.cols];
    const [x0, y0] = toSource(frame, col * wide, row * high);
    const [x1, y1] = toSource(frame, (col + 1) * wide, (row + 1) * high);
    context.rect(x0, y0, x1 - x0, y1 - y0);
  });
  context.fillStyle = FADED;
  context.fill();
}

/** The mean colour of the photograph under each patch, RGB; made once for a grid. */
function cellColours({ state: { photo }, port, memory }, { content, frame, grid }) {
  const key = `${content}:${grid.rows}:${grid.cols}:${frame.offset}`;
  if (memory.cells?.key === key) return memory.cells.colours;
  const [height, width] = port.get("_source");
  const finer = 4; // pixels a patch, whose mean is taken: a canvas that shrinks at once leaves much out
  const canvas = make("canvas", { width: grid.cols * finer, height: grid.rows * finer });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [down, across] = [0, 1].map((axis) => finer / grid.patch[axis]);
  context.imageSmoothingQuality = "high";
  context.setTransform(
    frame.scale[1] * across,
    0,
    0,
    frame.scale[0] * down,
    frame.offset[1] * across,
    frame.offset[0] * down,
  );
  context.drawImage(photo, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Float32Array(3 * grid.rows * grid.cols);
  for (let i = 0; i < data.length / 4; i++) {
    const [row, col] = [Math.floor(i / canvas.width / finer), Math.floor((i % canvas.width) / finer)];
    for (let c = 0; c < 3; c++) colours[3 * (row * grid.cols + col) + c] += data[4 * i + c] / finer ** 2;
  }
  memory.cells = { key, colours };
  return colours;
}
