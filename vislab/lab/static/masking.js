// Masks and what the segmenter was shown, drawn on the photograph.

import { make } from "./elements.js";
import { outline } from "./ink.js";
import { bordersOf, sampled, tint } from "./masks.js";
import { masksNow, now } from "./settings.js";

const TINT = 0.5; // as vislab's masks have it
const RADIUS = 7; // px of the screen
const INSIDE = "#1b7f3b";
const OUTSIDE = "#b3261e";

/** All masks, the largest below, each with an outline; of several each with its label. unit: as in `ink`. */
export function drawMasks(store, context, unit) {
  const told = masksNow(store);
  if (told?.masks && now(store, "masked")) {
    const [height, width] = store.port.get("_source");
    const { canvas, paths } = drawnMasks(store, told);
    context.imageSmoothingEnabled = false;
    context.drawImage(canvas, 0, 0, width, height);
    paths.forEach((path, i) => {
      for (const [style, line] of [
        ["#fff", 4],
        [`rgb(${told.masks[i].colour})`, 2],
      ]) {
        [context.strokeStyle, context.lineWidth] = [style, line * unit];
        context.stroke(path);
      }
    });
    for (const one of told.masks) if (one.at) maskLabel(context, one, unit, width);
  }
}

/** The masks on a canvas, and their outlines as paths in source pixels; made once for a message. */
function drawnMasks({ memory }, told) {
  if (memory.masks?.told === told) return memory.masks;
  const [height, width] = told.size;
  const all = told.runs.map((runs) => sampled(runs, told.size));
  const { high, wide } = all[0] ?? { high: 1, wide: 1 };
  const pixels = new ImageData(wide, high);
  const order = told.masks.map((_, i) => i).toSorted((a, b) => told.masks[b].share - told.masks[a].share);
  for (const i of order) tint(pixels.data, all[i].bits, told.masks[i].colour, TINT);
  const canvas = make("canvas", { width: wide, height: high });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const paths = all.map((mask) => pathOf(bordersOf(mask), width / wide, height / high));
  memory.masks = { told, canvas, paths };
  return memory.masks;
}

function pathOf(lines, across, down) {
  const path = new Path2D();
  for (let i = 0; i < lines.length; i += 4) {
    path.moveTo(lines[i] * across, lines[i + 1] * down);
    path.lineTo(lines[i + 2] * across, lines[i + 3] * down);
  }
  return path;
}

function maskLabel(context, { label, colour, at }, unit, width) {
  context.font = `${13 * unit}px sans-serif`;
  context.textBaseline = "top";
  const long = context.measureText(label).width + 10 * unit;
  const left = Math.max(0, Math.min(at[0] - long / 2, width - long));
  const top = Math.max(0, at[1] - 9 * unit);
  context.fillStyle = "rgb(0 0 0 / 0.75)";
  context.fillRect(left, top, long, 19 * unit);
  context.fillStyle = `rgb(${colour})`;
  context.fillRect(left, top, 3 * unit, 19 * unit);
  context.fillStyle = "#fff";
  context.fillText(label, left + 6 * unit, top + 3 * unit);
}

/** Points, a plus on the object and a minus beside it; the box; and while keys set them, where the next would be. */
export function drawMarks(store, context, unit) {
  for (const box of now(store, "boxes") ?? []) boxMark(context, box, unit);
  for (const [name, colour] of [
    ["points", INSIDE],
    ["outside", OUTSIDE],
  ]) {
    for (const point of now(store, name) ?? []) disc(context, point, unit, colour, name === "points");
  }
  const { cursor, corner, tool } = store.state;
  if (!cursor || tool !== "mask") return;
  if (corner) boxMark(context, [...corner, ...cursor], unit);
  for (const [style, line] of [
    ["#000", 4],
    ["#fff", 2],
  ]) {
    [context.strokeStyle, context.lineWidth] = [style, line * unit];
    cross(context, cursor, 2 * RADIUS * unit, true);
  }
}

function boxMark(context, [x0, y0, x1, y1], unit) {
  outline(context, [x0, y0, x1, y1], unit, true);
  context.setLineDash([4 * unit, 6 * unit]);
  [context.strokeStyle, context.lineWidth] = [INSIDE, 3 * unit];
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.setLineDash([]);
}

function disc(context, [x, y], unit, colour, inside) {
  context.beginPath();
  context.arc(x, y, RADIUS * unit, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
  [context.strokeStyle, context.lineWidth] = ["#fff", 2 * unit];
  context.stroke();
  cross(context, [x, y], 4 * unit, inside);
}

/** A plus; or its line across alone. */
function cross(context, [x, y], reach, upright) {
  context.beginPath();
  context.moveTo(x - reach, y);
  context.lineTo(x + reach, y);
  if (upright) {
    context.moveTo(x, y - reach);
    context.lineTo(x, y + reach);
  }
  context.stroke();
}
