// Lines and shades on a canvas whose context draws in source pixels. unit: one pixel of the screen.

import { labelsApart, seenBy, toSource } from "./places.js";

const DARK = "rgb(0 0 0 / 0.6)";

export function dim(context, width, height) {
  context.fillStyle = DARK;
  context.fillRect(0, 0, width, height);
}

/** What the model never saw lies in the dark. */
export function dimOutside(context, frame, width, height) {
  const [x, y, wide, high] = seenBy(frame);
  if (x <= 0.5 && y <= 0.5 && x + wide >= width - 0.5 && y + high >= height - 0.5) return;
  context.fillStyle = DARK;
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(x, y, wide, high);
  context.fill("evenodd");
}

export function gridLines(context, frame, grid, unit) {
  context.beginPath();
  for (let r = 0; r <= grid.rows; r++) {
    const [x0, y] = toSource(frame, 0, r * grid.patch[0]);
    const [x1] = toSource(frame, grid.cols * grid.patch[1], 0);
    context.moveTo(x0, y);
    context.lineTo(x1, y);
  }
  for (let c = 0; c <= grid.cols; c++) {
    const [x, y0] = toSource(frame, c * grid.patch[1], 0);
    const [, y1] = toSource(frame, 0, grid.rows * grid.patch[0]);
    context.moveTo(x, y0);
    context.lineTo(x, y1);
  }
  context.lineWidth = unit;
  const finest = Math.min(grid.patch[0] / frame.scale[0], grid.patch[1] / frame.scale[1]) / unit; // px on the screen
  context.strokeStyle = `rgb(255 255 255 / ${Math.min(0.65, finest / 24)})`;
  context.stroke();
}

export function outline(context, [x0, y0, x1, y1], unit, firm, strength = 1) {
  context.globalAlpha = strength;
  for (const [style, width] of [
    ["#000", firm ? 6 : 4],
    ["#fff", firm ? 3 : 2],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = width * unit;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
  context.globalAlpha = 1;
}

/** A fovea: a dashed line; firm while it can be moved. */
export function foveaBox(context, box, unit, firm) {
  outline(context, box, unit, firm);
  const [x0, y0, x1, y1] = box;
  context.setLineDash([8 * unit, 6 * unit]);
  context.strokeStyle = "#1565c0";
  context.lineWidth = (firm ? 3 : 2) * unit;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.setLineDash([]);
}

const scoredLabel = ({ label, score }) => `${label} ${score.toFixed(2)}`;

/** Where the labels of a detector's boxes stand, [left, top, right, bottom]: in the photograph, hiding no other. */
export function labelsOf(context, found, unit, [height, width]) {
  context.font = `${13 * unit}px sans-serif`;
  const high = 19 * unit;
  const labels = found.map((one) => {
    const { box } = one;
    const long = context.measureText(scoredLabel(one)).width + 8 * unit;
    const left = Math.max(0, Math.min(box[0], width - long));
    const top = Math.max(0, Math.min(box[1], height - high));
    return [left, top, left + long, top + high];
  });
  return labelsApart(labels, height);
}

/** A detector's boxes with their labels. size: of the photograph, [height, width]. */
export function labelledBoxes(context, found, unit, size) {
  for (const { box } of found) outline(context, box, unit, false);
  context.textBaseline = "top";
  for (const [i, [left, top, right, bottom]] of labelsOf(context, found, unit, size).entries()) {
    context.fillStyle = "rgb(0 0 0 / 0.75)";
    context.fillRect(left, top, right - left, bottom - top);
    context.fillStyle = "#fff";
    context.fillText(scoredLabel(found[i]), left + 4 * unit, top + 3 * unit);
  }
}
