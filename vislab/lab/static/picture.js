// The pictures: photograph, heatmap, grid, boxes, and the bar that says what their colours mean.

import { blendPixels, layingOf, strengths } from "./blends.js";
import { centred, coloured, endsOf, ticks, upsample } from "./colours.js";
import { DEFINITIONS } from "./definitions.js";
import { make, say } from "./elements.js";
import { drawGone, goneNow } from "./gone.js";
import { dim, dimOutside, foveaBox, gridLines, labelledBoxes, outline } from "./ink.js";
import { drawMarks, drawMasks } from "./masking.js";
import { fadedLayer } from "./passing.js";
import { boxOf, seenBy, toSource } from "./places.js";
import { roomAbove } from "./present.js";
import { promptHigh } from "./prompt.js";
import { captionOf, paneName, pinnedCell, readingOf } from "./reading.js";
import { drawRegions, edgeLines, fadeDropped } from "./regions.js";
import { isTwo, now, visibleBoxes } from "./settings.js";
import { sightOf } from "./sight.js";
import { drawTiles } from "./tiles.js";
import { ownersAt, proposedGrid } from "./tokens.js";
import { tickLabels } from "./words.js";

const PICTURE_KEYS = {
  patches: "Arrow keys walk the patches, Delete takes one away, Escape goes back to CLS.",
  words: "Arrow keys walk the words of the answer.",
};
const HIGHEST = { one: 0.74, stacked: 0.36, narrow: 0.42 }; // of the window: how high a photograph may stand
const AROUND = 216; // px of the window: the menus above it, and below it what it says and the controls of pointing
const SMALLEST = 0.6; // of a presented title that has one line, to the other text
const WHOSE = { map: "a range of its own", shared: "one range for both", absolute: "" }; // the colours of one of two
const PALE = 0.7; // how strongly a pin is drawn while another patch is pointed at
const BESIDE = 240; // px that each of two pictures has at least where they stand beside each other

/** Draw both panes and what stands below them. */
export function paint(store, ui) {
  const { panes } = store.state;
  const two = isTwo(store);
  const readings = panes.map((pane) => (pane.shown && (two || !pane.index) ? readingOf(store, pane) : null));
  const ranges = rangesOf(store, readings, two);
  const stack = two && ui.panes.clientWidth < 2 * BESIDE;
  ui.panes.classList.toggle("two", two && !stack);
  const alone = ui.left.clientWidth === ui.left.parentNode.clientWidth; // sliders below it
  const share = stack ? "stacked" : alone ? "narrow" : "one";
  const tall = store.state.presenting
    ? roomAbove(ui) / (stack ? 2 : 1)
    : Math.min(innerHeight * HIGHEST[share], innerHeight - AROUND) - promptHigh(ui);
  ui.figures[1].box.hidden = !two;
  for (const { index } of two ? panes : panes.slice(0, 1)) {
    const drawn = { reading: readings[index], range: ranges[index], tall, two };
    paintPane(store, panes[index], ui.figures[index], drawn);
  }
  say(ui.caption, captionOf(store, readings[0]));
  say(ui.told, store.state.help ?? "");
  const title = ui.figures[0].title.textContent;
  ui.canvas.setAttribute(
    "aria-label",
    `Photograph with heatmap: ${title}. ${ui.caption.textContent}. ${store.state.takes === "question" ? PICTURE_KEYS.words : PICTURE_KEYS.patches}`,
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
  const source = store.port.get("_source");
  const [height, width] = source;
  const context = figure.canvas.getContext("2d");
  const sharp = Math.min(2, devicePixelRatio || 1);
  figure.sight = sightOf([figure.box.clientWidth, tall], source, store.state.zoom, store.state.centre);
  const zoom = sizeCanvas(figure, sharp);
  const unit = (sharp / zoom) * (store.state.presenting ? 2 : 1);
  context.setTransform(zoom, 0, 0, zoom, -figure.sight.x * zoom, -figure.sight.y * zoom); // source pixels
  context.imageSmoothingQuality = "high";
  context.imageSmoothingEnabled = true;
  if (photo) context.drawImage(photo, 0, 0, width, height);
  if (!reading || !photo || !about) {
    if (photo) {
      drawMasks(store, context, unit);
      drawMarks(store, context, unit);
    }
    figure.title.textContent = "the photograph";
    figure.bar.style.visibility = "hidden";
    return;
  }
  const { frame, grid } = reading.place ?? pane.shown;
  const proposal = proposedGrid(store, pane);
  if (reading.crops) {
    dim(context, width, height);
    for (const crop of reading.crops.toReversed()) layCrop(store, context, crop, range, figure.layer, unit);
  } else if (reading.regions !== undefined) {
    drawRegions(store, context, pane.shown, reading.regions, figure.layer, unit);
    dimOutside(context, frame, width, height);
  } else {
    lay(store, context, pane.shown, reading.values, range, figure.layer);
    const faded = fadedLayer(store, pane);
    if (faded !== null) fadeDropped(context, pane.shown, faded);
    dimOutside(context, frame, width, height);
    if (now(store, "grid") && reading.views?.length) drawTiles(context, reading.views, unit);
    else if (now(store, "grid") || proposal) patchLines(context, pane.shown, proposal, unit);
  }
  drawFovea(store, context, pane, unit);
  const without = pane.index || reading.crops ? null : goneNow(store);
  if (without) drawGone(context, without, frame, grid, unit);
  drawMasks(store, context, unit);
  if (reading.regions === undefined) labelledBoxes(context, visibleBoxes(store), unit, source); // found in the photograph
  drawMarks(store, context, unit);
  const pinned = hover && !reading.crops && reading.regions === undefined && pinnedCell(store, pane);
  if (pinned) outline(context, boxOf(frame, grid, ...pinned), unit, false, PALE);
  if (reading.cell) outline(context, boxOf(frame, grid, ...reading.cell), unit, !hover);
  figure.title.textContent = (reading.preview ? "preview · " : "") + (proposal ? "new patches · " : "") + reading.title;
  figure.box.classList.toggle("preview", Boolean(reading.preview || proposal));
  figure.bar.style.visibility = reading.regions === undefined ? "" : "hidden";
  figure.name.textContent = two ? paneName(store, pane) : "";
  fitTitle(figure, store.state.presenting);
  colourBar(store, figure, range, two);
}

/** Presented, a title is as large as its line lets it be, or has two; else one that is cut is whole as a tooltip. */
function fitTitle({ box, name, title }, presenting) {
  const line = title.parentNode;
  const key = [presenting, box.clientWidth, innerWidth, name.textContent, title.textContent].join("|");
  if (line.dataset.key === key) return;
  line.dataset.key = key;
  line.classList.remove("wraps");
  line.style.setProperty("--fit", 1);
  const cut = !presenting && line.scrollHeight > line.clientHeight + 1;
  title.title = cut ? line.textContent.trim() : DEFINITIONS.title;
  if (!presenting) return;
  const fit = line.clientWidth / line.scrollWidth;
  line.classList.toggle("wraps", fit < SMALLEST);
  const one = fit > 0.999 ? 1 : 0.99 * fit;
  line.style.setProperty("--fit", fit < SMALLEST ? Math.min(SMALLEST, 1.7 * fit) : one);
}

/** Borders of the patches, of those that are proposed where some are; of a fovea those of its own. */
function patchLines(context, shown, proposal, unit) {
  const { frame, grid } = shown;
  if (proposal) {
    if (proposal.owner) edgeLines(context, frame, proposal, proposal.owner, unit);
    else gridLines(context, frame, proposal, unit);
  } else if (shown.owners?.length) edgeLines(context, frame, grid, ownersAt(shown, 0), unit);
  else gridLines(context, frame, grid, unit);
}

/** The fovea as it is set or drawn; of a second picture its own. */
function drawFovea(store, context, { index, shown }, unit) {
  const boxes = index ? shown.settings.fovea : now(store, "fovea");
  for (const box of boxes ?? []) foveaBox(context, box, unit, store.state.tool === "fovea");
}

/** sharp: pixels of the screen in one of the page -> pixels of the canvas in one of the source. */
function sizeCanvas({ canvas, sight }, sharp) {
  const wide = Math.max(1, Math.round(sight.wide * sharp));
  const high = Math.max(1, Math.round((wide * sight.high) / sight.wide));
  if (canvas.width !== wide || canvas.height !== high) {
    Object.assign(canvas, { width: wide, height: high });
    canvas.style.width = `${wide / sharp}px`;
  }
  return (sight.scale * wide) / sight.wide;
}

/** Values over their patches; the context draws in source pixels. layer: a canvas to make them in. */
export function lay(store, context, { frame, grid }, values, range, layer) {
  const { rows, cols, patch } = grid;
  const blend = now(store, "blend");
  const lines = blend === "contour";
  const smooth = now(store, "smooth") || lines;
  const finest = Math.max(1, Math.floor((lines ? 720 : 240) / Math.max(rows, cols)));
  const fine = smooth ? Math.min(lines ? 64 : 8, finest) : 1;
  const [x0, y0] = toSource(frame, 0, 0);
  const [x1, y1] = toSource(frame, cols * patch[1], rows * patch[0]);
  const finer = smooth ? upsample(values, rows, cols, fine) : values;
  const plain = coloured(finer, range, coloursOf(store, range), now(store, "threshold"));
  const pixels = blendPixels(plain, strengths(finer, range), cols * fine, blend);
  Object.assign(layer, { width: cols * fine, height: rows * fine });
  layer.getContext("2d").putImageData(new ImageData(pixels, layer.width, layer.height), 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "low"; // bilinear, as the values are
  [context.globalAlpha, context.globalCompositeOperation] = layingOf(blend, now(store, "opacity"));
  context.drawImage(layer, x0, y0, x1 - x0, y1 - y0);
  [context.globalAlpha, context.globalCompositeOperation] = [1, "source-over"];
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

/** Beside another picture it says from which value to which it runs, and whether both have the same colours. */
function colourBar(store, figure, [low, high], two) {
  const whose = two ? WHOSE[now(store, "normalise")] : "";
  const key = [low, high, now(store, "colormap"), store.state.presenting, figure.bar.clientWidth, two, whose].join(":");
  if (figure.bar.dataset.key === key) return;
  figure.bar.dataset.key = key;
  const even = Float32Array.from({ length: 256 }, (_, i) => i / 255);
  const ramp = coloured(even, [0, 1], coloursOf(store, [low, high]));
  figure.ramp.getContext("2d").putImageData(new ImageData(ramp, 256, 1), 0, 0);
  const letters = parseFloat(getComputedStyle(figure.bar).fontSize);
  const most = Math.max(1, Math.min(4, Math.floor(figure.bar.clientWidth / letters / 5)));
  const at = (store.state.presenting || two) && high > low ? [low, high] : ticks(low, high, most);
  const names = tickLabels(at);
  const mark = (v, i) => {
    const place = high > low ? (100 * (v - low)) / (high - low) : 0;
    return make("span", { textContent: names[i], style: `left: ${place}%; --shift: ${-place}%` });
  };
  const [first, ...others] = at.map(mark);
  const between = make("span", { className: "whose", textContent: whose, style: "left: 50%; --shift: -50%" });
  figure.numbers.replaceChildren(first, between, ...others);
  figure.bar.title = DEFINITIONS[centred([low, high]) ? "signed" : "bar"];
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
