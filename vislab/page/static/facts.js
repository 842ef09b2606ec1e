// What the guided steps and the quiz ask, and what is true of this photograph: computed here, never looked up.

import { cellsOf, read, sideOf } from "./app.js";
import {
  clsTo,
  decidedAt,
  halfOf,
  largest,
  percent,
  products,
  quarterOf,
  ranked,
  rowsAt,
  shuffled,
  softmax,
  spread,
} from "./measures.js";
import { asked, classOf, look } from "./runs.js";
import { labelOf, told } from "./words.js";

const several = (app, names) => names.map((name) => told(app, name));
const yesNo = (app) => several(app, ["yes", "no"]);
const last = (app) => app.base.layers - 1;
const label = (app) => labelOf(app, classOf(app));
const share = (app, run = app.base) => percent(run.shares[classOf(app)]);

/** Numbers in their order, each once, and where the right one stands. */
function sorted(numbers, right) {
  const options = [...new Set(numbers)].sort((a, b) => a - b);
  return { options: options.map((one) => one.toLocaleString("en")), right: options.indexOf(right) };
}

/** A forward with something changed: does it still say the same? */
async function same(app, given, more = {}) {
  const run = await asked(app, given);
  if (!run) return null;
  const now = largest(run.shares);
  const values = { label: label(app), now: labelOf(app, now), share: share(app), after: share(app, run), ...more };
  return { options: yesNo(app), right: now === classOf(app) ? 0 : 1, values };
}

const best = (app, count) => ranked(clsTo(app.base, last(app))).slice(0, count);

/**
 * Name -> what is asked: the options, which is right, and the values of the words that tell it. More than that is for
 * the drawing. Null where a forward failed.
 */
export const FACTS = {
  photo: (app) => {
    const { side } = app.about.form;
    return {
      ...sorted([side * side, 3 * side * side, 1000], 3 * side * side),
      values: { side, count: (3 * side * side).toLocaleString("en") },
    };
  },
  patches: (app) => {
    const [across, count, { patch }] = [sideOf(app), cellsOf(app), app.state];
    return { ...sorted([across, count, count * 4, patch * patch], count), values: { across, count, patch } };
  },
  positions: async (app) => {
    const moved = Uint32Array.from(shuffled(cellsOf(app), 7));
    const together = await app.ask({ kind: "run", photo: app.state.photo, wish: wishInOrder(app, moved) });
    const most = together.run
      ? Math.max(...softmax(together.run.logits).map((v, i) => Math.abs(v - app.base.shares[i])))
      : NaN;
    const fact = await same(app, { moved }, { most: percent(most) });
    return fact && { ...fact, moved };
  },
  products: async (app) => {
    const [from, to] = app.picked ?? [];
    const layer = last(app);
    if (to === undefined || !(await look(app, app.base, { layer }))) return null;
    const row = rowsAt(app.base, layer, from + 1).subarray(0, app.base.tokens);
    const parts = products(app.base, 0, from + 1, to + 1);
    const sum = parts.reduce((a, b) => a + b, 0);
    const values = {
      count: parts.length,
      sum: sum.toFixed(2),
      share: percent(row[to + 1]),
      even: percent(1 / app.base.tokens),
    };
    return {
      options: several(app, ["more", "less"]),
      right: row[to + 1] > 1 / app.base.tokens ? 0 : 1,
      values,
      parts,
      row,
      to,
    };
  },
  heads: (app) => {
    const { heads, tokens } = app.base;
    const rows = rowsAt(app.base, last(app), 0);
    const spreads = Array.from({ length: heads }, (_, h) => spread(rows.subarray(h * tokens, (h + 1) * tokens)));
    const right = largest(spreads);
    const options = spreads.map((_, h) => told(app, "headN", { head: h + 1 }));
    return {
      options,
      right,
      values: { all: spreads.map((one) => `${(100 * one).toFixed(1)} %`).join(", "), layer: last(app) + 1 },
    };
  },
  layers: (app) => {
    const [first, final] = [0, last(app)].map((layer) => halfOf(clsTo(app.base, layer)));
    const options = [1, last(app) + 1].map((layer) => told(app, "layerN", { layer }));
    return {
      options,
      right: first <= final ? 0 : 1,
      values: { first, final, count: cellsOf(app), layer: last(app) + 1 },
    };
  },
  lens: (app) => {
    const { layers, lens } = app.base;
    const layer = decidedAt(lens);
    const ends = [0, 1, 2, 3].map((i) => Math.round((i * layers) / 3));
    const options = [0, 1, 2].map((i) => told(app, "layersFromTo", { from: i ? ends[i] + 1 : 0, to: ends[i + 1] }));
    return { options, right: layer <= ends[1] ? 0 : layer <= ends[2] ? 1 : 2, values: { layer, label: label(app) } };
  },
  decision: async (app) => {
    const removed = best(app, Math.round(cellsOf(app) / 4));
    const fact = await same(app, { removed: new Set(removed) }, { count: removed.length });
    return fact && { ...fact, removed };
  },
  unknown: async (app) => {
    if (!app.photos.has("grey")) await read(app, "grey", await greyPicture());
    const run = await asked(app, {}, "grey");
    if (!run) return null;
    const top = largest(run.shares);
    const even = run.shares[top] < 1.5 / run.shares.length;
    const values = { label: labelOf(app, top), share: percent(run.shares[top]), even: percent(1 / run.shares.length) };
    return { options: several(app, ["saysNothing", "saysAlike", "saysOne"]), right: even ? 1 : 2, values };
  },
  tokens: (app) => {
    const [count, across] = [cellsOf(app), sideOf(app)];
    return {
      ...sorted([across, count, count + 1, 2 * count], count + 1),
      values: { count, tokens: count + 1, patch: app.state.patch },
    };
  },
  cost: (app) => {
    const count = cellsOf(app);
    const times = ((4 * count + 1) / (count + 1)) ** 2;
    return {
      options: ["2 ×", "4 ×", "16 ×"],
      right: times < 3 ? 0 : times < 9 ? 1 : 2,
      values: { times: times.toFixed(1), from: count + 1, to: 4 * count + 1 },
    };
  },
  quarter: (app) => {
    const options = several(app, ["topLeft", "topRight", "bottomLeft", "bottomRight"]);
    const right = quarterOf(clsTo(app.base, last(app)), sideOf(app));
    return { options, right, values: { where: options[right], layer: last(app) + 1 } };
  },
  knocked: async (app) => {
    const { heads } = app.base;
    const left = [];
    for (let head = 0; head < heads; head++) {
      const run = await asked(app, { off: [...app.state.off, last(app) * heads + head] });
      if (!run) return null;
      left.push(run.shares[classOf(app)]);
    }
    const right = largest(left.map((one) => -one));
    const options = left.map((_, head) => told(app, "headN", { head: head + 1 }));
    return {
      options,
      right,
      values: {
        head: right + 1,
        share: share(app),
        after: percent(left[right]),
        layer: last(app) + 1,
        label: label(app),
      },
    };
  },
  decided: (app) => {
    const [layer, { layers }] = [decidedAt(app.base.lens), app.base];
    const others = [layer - 4, layer + 3, layer - 2, layer + 5].filter((one) => one >= 0 && one <= layers).slice(0, 2);
    return { ...sorted([layer, ...others], layer), values: { layer, label: label(app) } };
  },
  flat: (app) => same(app, { scale: app.state.scale.map(() => 0) }),
  half: (app) => {
    const [half, count] = [halfOf(clsTo(app.base, last(app))), cellsOf(app)];
    const part = half / count;
    return {
      options: several(app, ["tenth", "third", "beyondThird"]),
      right: part < 0.1 ? 0 : part < 1 / 3 ? 1 : 2,
      values: { half, count, part: percent(part) },
    };
  },
  least: async (app) => {
    const order = ranked(clsTo(app.base, last(app)));
    return same(
      app,
      { removed: new Set(order.slice(order.length >> 1)) },
      { count: order.length - (order.length >> 1) },
    );
  },
  brightest: async (app) => {
    if (!(await look(app, app.base, { layer: last(app), rollout: true }))) return null;
    const [one, other] = [largest(clsTo(app.base, last(app))), largest(app.base.rollout.subarray(1))];
    const at = (cell) =>
      told(app, "patchAt", { row: Math.floor(cell / sideOf(app)) + 1, col: (cell % sideOf(app)) + 1 });
    return {
      options: yesNo(app),
      right: one === other ? 0 : 1,
      values: { one: at(one), other: at(other), layer: last(app) + 1 },
    };
  },
  coarse: (app) => {
    const sizes = Object.keys(app.about.form.sizes)
      .map(Number)
      .sort((a, b) => a - b);
    const patch = sizes.find((one) => one > app.state.patch) ?? sizes.at(-2) ?? app.state.patch;
    return same(app, { patch }, { patch, own: app.state.patch });
  },
};

/** All patches, in an order, each with its own position: to attention the order is nothing. */
function wishInOrder(app, kept) {
  const { layers, heads } = app.about.form;
  const scale = Float32Array.from({ length: layers * heads }, (_, i) => app.state.scale[Math.floor(i / heads)]);
  const on = new Float32Array(layers * heads).fill(1);
  for (const head of app.state.off) on[head] = 0;
  return { patch: app.state.patch, scale, on, kept, moved: null, more: false };
}

function greyPicture() {
  const canvas = new OffscreenCanvas(64, 64);
  const context = canvas.getContext("2d");
  context.fillStyle = "#808080";
  context.fillRect(0, 0, 64, 64);
  return canvas.convertToBlob();
}
