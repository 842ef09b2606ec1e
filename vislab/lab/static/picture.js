// The pictures: photograph, heatmap, grid, boxes, and the bar that says what their colours mean.

import { centred, coloured, endsOf, ticks, upsample } from "./colours.js";
import { make, say } from "./elements.js";
import { dim, dimOutside, gridLines, labelledBox, outline } from "./ink.js";
import { boxOf, seenBy, toSource } from "./places.js";
import { captionOf, paneName, readingOf } from "./reading.js";
import { isTwo, now, proposedGrid, visibleBoxes } from "./settings.js";
import { tickLabels } from "./words.js";

const HIGHEST = [540, 0.58]; // px, and share of the window: how high a photograph may stand

/** Draw both panes and what stands below them. */
export function paint(store, ui) {
  const { panes } = store.state;
  const two = isTwo(store);
  const readings = panes.map((pane) => (pane.shown && (two || !pane.index) ? readingOf(store, pane) : null));
  const ranges = rangesOf(store, readings, two);
  // Beside each other or one above the other, whichever makes the larger pictures.
  const [height, width] = store.port.get("_source");
  const wide = ui.panes.clientWidth / 2;
  const highest = Math.min(HIGHEST[0], innerHeight * HIGHEST[1]);
  const tall = highest / 2.1;
  const stack = two && (tall * width) / height > wide * 1.1;
  ui.panes.classList.toggle("two", two && !stack);
  ui.figures[1].box.hidden = !two;
  for (const { index } of two ? panes : panes.slice(0, 1)) {
    const drawn = { reading: readings[index], range: ranges[index], tall: stack ? tall : highest, two };
    paintPane(store, panes[index], ui.figures[index], drawn);
  }
  say(ui.caption, captionOf(store, readings[0]));
  const title = ui.figures[0].title.textContent;
  ui.canvas.setAttribute(
    "aria-label",
    `Photograph with heatmap: ${title}. ${ui.caption.textContent}. Arrow keys walk the patches, Escape goes back to CLS.`,
  );
}

/** The values at the ends of each picture's colours. */
function rangesOf(store, readings, two) {
  const lists = readings.filter(Boolean).map((one) => one.values);
  const signed = readings.map((one) => Boolean(one?.signed));
  const normalise = now(store, "normalise");
  const shared = normalise === "shared" && two ? endsOf(lists, signed.includes(true)) : null;
  return readings.map((one, i) => {
    if (!one) return null;
    return normalise === "absolute" ? [-signed[i], 1] : (shared ?? endsOf([one.values], signed[i]));
  });
}

/** reading: as `readingOf` has it, or null; tall: how high the picture may be, px; two: whether there is another. */
function paintPane(store, pane, figure, { reading, range, tall, two }) {
  const { photo, about, hover } = store.state;
  const [height, width] = store.port.get("_source");
  const context = figure.canvas.getContext("2d");
  const sharp = Math.min(2, devicePixelRatio || 1);
  sizeCanvas(figure, Math.min(figure.box.clientWidth, (tall * width) / height), sharp, [height, width]);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.imageSmoothingQuality = "high";
  if (photo) context.drawImage(photo, 0, 0, figure.canvas.width, figure.canvas.height);
  if (!reading || !photo || !about) {
    figure.title.textContent = "the photograph";
    return;
  }
  const { frame, grid } = pane.shown;
  const proposal = proposedGrid(store, pane);
  const zoom = figure.canvas.width / width;
  const unit = sharp / zoom;
  context.setTransform(zoom, 0, 0, zoom, 0, 0); // from here on in source pixels
  if (reading.crops) {
    dim(context, width, height);
    for (const crop of reading.crops.toReversed()) layCrop(store, context, crop, range, figure.layer, unit);
  } else {
    lay(store, context, pane.shown, reading.values, range, figure.layer);
    dimOutside(context, frame, width, height);
    if (now(store, "grid") || proposal) gridLines(context, frame, proposal ?? grid, unit);
  }
  for (const one of visibleBoxes(store)) labelledBox(context, one, unit, width);
  if (reading.cell) outline(context, boxOf(frame, grid, ...reading.cell), unit, !hover);
  figure.title.textContent = (reading.preview ? "preview · " : "") + (proposal ? "new patches · " : "") + reading.title;
  figure.box.classList.toggle("preview", Boolean(reading.preview || proposal));
  figure.name.textContent = two ? paneName(store, pane) : "";
  colourBar(store, figure, range);
}

/** room: the width there is, px of the page; sharp: pixels of the screen in one of those. */
function sizeCanvas({ canvas }, room, sharp, [height, width]) {
  const wide = Math.max(1, Math.round(room * sharp));
  const high = Math.max(1, Math.round((wide * height) / width));
  if (canvas.width === wide && canvas.height === high) return;
  Object.assign(canvas, { width: wide, height: high });
  canvas.style.width = `${wide / sharp}px`;
}

/** Values over their patches; the context draws in source pixels. layer: a canvas to make them in. */
export function lay(store, context, { frame, grid }, values, range, layer) {
  const { rows, cols, patch } = grid;
  const smooth = now(store, "smooth");
  const fine = smooth ? Math.max(1, Math.min(8, Math.floor(240 / Math.max(rows, cols)))) : 1;
  const [x0, y0] = toSource(frame, 0, 0);
  const [x1, y1] = toSource(frame, cols * patch[1], rows * patch[0]);
  const finer = smooth ? upsample(values, rows, cols, fine) : values;
  const pixels = coloured(finer, range, coloursOf(store, range), now(store, "threshold"));
  Object.assign(layer, { width: cols * fine, height: rows * fine });
  layer.getContext("2d").putImageData(new ImageData(pixels, layer.width, layer.height), 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "low"; // bilinear, as the values are
  context.globalAlpha = now(store, "opacity");
  context.drawImage(layer, x0, y0, x1 - x0, y1 - y0);
  context.globalAlpha = 1;
}

/** A part of the photograph that was looked at by itself, over whatever is there. */
function layCrop(store, context, crop, range, layer, unit) {
  const [height, width] = store.port.get("_source");
  const { frame, grid } = crop;
  context.save();
  context.beginPath();
  context.rect(...seenBy(frame));
  context.clip();
  context.drawImage(store.state.photo, 0, 0, width, height);
  lay(store, context, crop, crop.values, range, layer);
  if (now(store, "grid")) gridLines(context, frame, grid, unit);
  context.restore();
}

/** The 256 colours of a range: where 0 is in its middle, only a diverging colormap will do. */
export function coloursOf(store, range = [0, 1]) {
  const { colormaps, tables } = store.state.about;
  const index = Math.max(0, colormaps.indexOf(centred(range) ? "coolwarm" : now(store, "colormap")));
  return tables.subarray(index * 768, (index + 1) * 768);
}

function colourBar(store, figure, [low, high]) {
  const key = `${low}:${high}:${now(store, "colormap")}`;
  if (figure.bar.dataset.key === key) return;
  figure.bar.dataset.key = key;
  const even = Float32Array.from({ length: 256 }, (_, i) => i / 255);
  const ramp = coloured(even, [0, 1], coloursOf(store, [low, high]));
  figure.ramp.getContext("2d").putImageData(new ImageData(ramp, 256, 1), 0, 0);
  const at = ticks(low, high, 4);
  const names = tickLabels(at);
  const mark = (v, i) => {
    const place = high > low ? (100 * (v - low)) / (high - low) : 0;
    return make("span", { textContent: names[i], style: `left: ${place}%; --shift: ${-place}%` });
  };
  figure.numbers.replaceChildren(...at.map(mark));
  figure.bar.setAttribute("aria-label", `Colours run from ${low.toPrecision(3)} to ${high.toPrecision(3)}`);
}

/** The photograph on a canvas that is so many pixels wide; the context draws in source pixels. */
export function photographOn(store, wide, canvas = make("canvas")) {
  const [height, width] = store.port.get("_source");
  const context = canvas.getContext("2d");
  const { photo } = store.state;
  Object.assign(canvas, { width: wide, height: Math.round((wide * height) / width) });
  context.scale(wide / width, wide / width);
  if (photo) context.drawImage(photo, 0, 0, width, height);
  return { canvas, context };
}
