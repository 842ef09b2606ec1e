// What happens to this photograph in each guided step, drawn as it happens. time: 0 to 1.

import { endsOf } from "../../lab/static/colours.js";
import { cellsOf, sideOf } from "./app.js";
import { clsTo, onGrid } from "./measures.js";
import { mapCanvas } from "./view.js";
import { told } from "./words.js";

const WIDE = 480; // of the canvas, whose height is 300
const HIGH = 300;
const ease = (t) => t * t * (3 - 2 * t);

/** The photograph, squeezed into the model's square. */
function squeezed(context, app, _, time) {
  const { picture } = app.photos.get(app.state.photo);
  const fit = Math.min(WIDE / picture.width, HIGH / picture.height);
  const t = ease(time);
  const [w, h] = [picture.width * fit, picture.height * fit].map((side) => side * (1 - t) + HIGH * 0.93 * t);
  context.drawImage(picture, (WIDE - w) / 2, (HIGH - h) / 2, w, h);
}

/** Patches at places of their own: from `from` to `to`, with gaps between them. */
function scattered(context, app, from, to, gap) {
  const { picture } = app.photos.get(app.state.photo);
  const side = sideOf(app);
  const size = (HIGH * 0.93) / side / (1 + gap);
  const [left, top] = [(WIDE - HIGH * 0.93) / 2, HIGH * 0.035];
  for (let cell = 0; cell < cellsOf(app); cell++) {
    const [x, y] = to(from(cell), cell);
    const [col, row] = [cell % side, Math.floor(cell / side)];
    const [w, h] = [picture.width / side, picture.height / side];
    context.drawImage(
      picture,
      col * w,
      row * h,
      w,
      h,
      left + x * size * (1 + gap),
      top + y * size * (1 + gap),
      size,
      size,
    );
  }
}

function cut(context, app, _, time) {
  const side = sideOf(app);
  scattered(
    context,
    app,
    (cell) => [cell % side, Math.floor(cell / side)],
    (at) => at,
    0.28 * ease(time),
  );
}

function mixed(context, app, fact, time) {
  const side = sideOf(app);
  const place = new Map(Array.from(fact.moved, (from, at) => [from, at]));
  const t = ease(time);
  const between = ([x, y], cell) => {
    const at = place.get(cell);
    return [x + ((at % side) - x) * t, y + (Math.floor(at / side) - y) * t];
  };
  scattered(context, app, (cell) => [cell % side, Math.floor(cell / side)], between, 0.08);
}

/** Words on the canvas in the page's ink, edged with its ground: readable on what lies below, by day and by night. */
function written(context, words, y, x = 4) {
  const { color, backgroundColor } = getComputedStyle(context.canvas);
  Object.assign(context, { font: "14px system-ui, sans-serif", lineWidth: 3, lineJoin: "round" });
  context.strokeStyle = backgroundColor;
  context.strokeText(words, x, y);
  context.fillStyle = color;
  context.fillText(words, x, y);
}

/** Products as bars, one after the other; then their sum; then the softmax over all tokens, the one that was picked full. */
function summed(context, app, fact, time) {
  const { parts, row, to, values } = fact;
  const count = Math.ceil(Math.min(1, time * 1.6) * parts.length);
  const most = Math.max(...parts.map(Math.abs)) || 1;
  const wide = WIDE / parts.length;
  for (let i = 0; i < count; i++) {
    context.fillStyle = parts[i] < 0 ? "#c4511d" : "#3b7dbf";
    context.fillRect(i * wide + 1, 80, wide - 2, (-parts[i] / most) * 72);
  }
  const sum = parts.subarray(0, count).reduce((a, b) => a + b, 0);
  const total = Math.max(most, Math.abs(parts.reduce((a, b) => a + b, 0)), 1e-9);
  context.fillStyle = sum < 0 ? "#c4511d" : "#3b7dbf";
  context.fillRect(WIDE / 2, 165, ((sum / total) * WIDE) / 2, 18);
  written(context, told(app, "sceneProducts", values), 14);
  if (count === parts.length) written(context, told(app, "sceneSum", values), 198);
  if (time < 0.65) return;
  written(context, told(app, "sceneSoftmax", { count: row.length }), 216);
  const top = Math.max(...row.subarray(1));
  const bar = WIDE / (row.length - 1);
  for (let j = 1; j < row.length; j++) {
    context.fillStyle = j === to + 1 ? "#c4511d" : "#8a949e";
    const high = Math.max(1, (row[j] / top) * 74 * Math.min(1, (time - 0.65) / 0.3));
    context.fillRect((j - 1) * bar, 295 - high, Math.max(j === to + 1 ? 3 : 0.6, bar - 0.5), high);
  }
}

/** Maps side by side, the given number of them. */
function maps(context, app, list, shown) {
  const { picture } = app.photos.get(app.state.photo);
  const size = Math.min(HIGH - 20, WIDE / list.length - 8);
  list.slice(0, shown).forEach((values, i) => {
    const [x, y] = [(WIDE - list.length * (size + 8)) / 2 + i * (size + 8) + 4, (HIGH - size) / 2];
    context.drawImage(picture, x, y, size, size);
    context.globalAlpha = 0.75;
    context.drawImage(
      mapCanvas(onGrid(values, null, values.length), sideOf(app), app.table, endsOf([values], false)),
      x,
      y,
      size,
      size,
    );
    context.globalAlpha = 1;
  });
}

function headByHead(context, app, _, time) {
  const { heads, layers } = app.base;
  maps(
    context,
    app,
    Array.from({ length: heads }, (_, head) => clsTo(app.base, layers - 1, head)),
    Math.ceil(time * heads),
  );
  for (let head = 0; head < Math.ceil(time * heads); head++) {
    written(context, told(app, "sceneHead", { head: head + 1 }), 20, 8 + (head * WIDE) / heads);
  }
}

function layerByLayer(context, app, _, time) {
  const { layers } = app.base;
  const layer = Math.min(layers - 1, Math.floor(time * layers));
  maps(context, app, [clsTo(app.base, layer)], 1);
  written(context, told(app, "sceneLayer", { layer: layer + 1 }), 18);
}

/** What the head says of CLS after each layer: the probability of the class as steps. */
function rising(context, app, _, time) {
  const { lens, shares, layers } = app.base;
  const target = shares.indexOf(Math.max(...shares));
  const wide = WIDE / (layers + 1);
  lens.slice(0, Math.ceil(time * lens.length)).forEach((logits, i) => {
    const top = Math.max(...logits);
    const total = logits.reduce((sum, v) => sum + Math.exp(v - top), 0);
    const high = (Math.exp(logits[target] - top) / total) * 250;
    context.fillStyle = logits[target] === top ? "#3b7dbf" : "#8a949e";
    context.fillRect(i * wide + 3, 270 - high, wide - 6, high);
    written(context, String(i), 290, i * wide + wide / 2 - (i < 10 ? 4 : 8));
  });
}

function vanishing(context, app, fact, time) {
  const side = sideOf(app);
  const gone = new Set(fact.removed.slice(0, Math.ceil(time * fact.removed.length)));
  scattered(
    context,
    app,
    (cell) => (gone.has(cell) ? [1e4, 1e4] : [cell % side, Math.floor(cell / side)]),
    (at) => at,
    0.05,
  );
}

function plain(context, app) {
  context.drawImage(app.photos.get("grey").picture, (WIDE - 240) / 2, 30, 240, 240);
}

const SCENES = {
  photo: squeezed,
  patches: cut,
  positions: mixed,
  products: summed,
  heads: headByHead,
  layers: layerByLayer,
  lens: rising,
  decision: vanishing,
  unknown: plain,
};

/** Play the scene of a step on a canvas once; `going` tells whether it still is the one to be played. */
export function play(canvas, app, name, fact, going) {
  Object.assign(canvas, { width: WIDE, height: HIGH });
  const context = canvas.getContext("2d");
  const seconds = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 2.4;
  const start = performance.now();
  const frame = (now) => {
    if (!going()) return;
    const time = seconds ? Math.min(1, Math.max(0, (now - start) / 1000 / seconds)) : 1;
    context.clearRect(0, 0, WIDE, HIGH);
    context.fillStyle = "#8a949e";
    SCENES[name](context, app, fact, time);
    if (time < 1) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}
