// The lens: what the head would say after each layer, as a table, and of each patch alone as maps of classes.

import { make, say } from "./elements.js";
import { photographOn } from "./picture.js";
import { commit, layerIndex, now } from "./settings.js";

// Okabe & Ito's colours, as figures have them of masks.
const HUES = [
  [230, 159, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [0, 114, 178],
  [213, 94, 0],
  [204, 121, 167],
  [150, 150, 150],
];
const UNCOLOURED = 254; // in place of a class: one without a colour; above it: no token stands there
const OTHERWISE = [60, 60, 60];
const SMALL = 160; // px

/** It is made while its section is open. */
export function bindLens(store, ui) {
  ui.lens.addEventListener("toggle", () => {
    store.change({ unfolded: { ...store.state.unfolded, lens: ui.lens.open } });
    if (!store.page) store.port.send({ kind: "lens", open: ui.lens.open });
  });
}

/** Show it, anew where it is another. */
export function showLens(store, ui, shown) {
  const { lens, photo } = store.state;
  const own = lens?.run === shown.run ? lens : null;
  say(
    ui.lensWords,
    own?.refused ?? (own ? LENS_WORDS : store.page ? "This page holds no lens of this map." : "The model looks …"),
  );
  const chosen = now(store, "method") === "lens" ? layerIndex(shown, now(store, "layer")) : null;
  const key = JSON.stringify([own?.run, own?.refused, shown.content, Boolean(photo)]);
  if (ui.lensTable.dataset.key !== key && photo) {
    ui.lensTable.dataset.key = key;
    const parts = !own || own.refused ? [[], [], []] : laidOut(store, own);
    ui.lensTable.replaceChildren(...parts[0]);
    ui.lensMaps.replaceChildren(...parts[1]);
    ui.lensKey.replaceChildren(...parts[2]);
  }
  for (const button of ui.lensMaps.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.layer) === chosen));
  }
}

const LENS_WORDS =
  "The head reads the last layer; here it reads each. Layers were not trained to be read so: an early one may be read wrongly and still hold what later ones take out. Maps: the class that each patch alone would be, the surer the stronger; click one to make it the picture.";

function laidOut(store, lens) {
  const head = make(
    "tr",
    {},
    ...["layer", "the head says", "patches that say so alone"].map((textContent) => make("th", { textContent })),
  );
  const rows = lens.lines.map((line, layer) =>
    make("tr", {}, ...lineOf(line, layer).map((textContent) => make("td", { textContent }))),
  );
  const maps = lens.lines.map((line, layer) => mapOf(store, lens, line, layer));
  const swatch = (textContent, i) =>
    make("span", { className: "swatch", textContent, style: `--hue: rgb(${HUES[i] ?? OTHERWISE})` });
  return [
    [make("thead", {}, head), make("tbody", {}, ...rows)],
    maps,
    lens.classes.map((name, i) => swatch(first(name), i)),
  ];
}

const first = (name) => name.split(",")[0];
const chance = (p) => (p >= 0 && p <= 1 ? `${(100 * p).toFixed(p < 0.095 ? 1 : 0)} %` : p.toPrecision(3));
const lineOf = ({ best, agree, patches }, layer) => [
  layer,
  best.map(([name, p]) => `${first(name)} ${chance(p)}`).join(" · "),
  `${agree} of ${patches}`,
];

/** The class of each patch over the photograph, a button that makes it the picture. */
function mapOf(store, { maps, shares, shape: [, rows, cols], run }, line, layer) {
  const { canvas, context } = photographOn(store, SMALL);
  const { frame, grid } = store.state.panes[0].shown;
  const pixels = new ImageData(cols, rows);
  for (let i = 0; i < rows * cols; i++) {
    const at = layer * rows * cols + i;
    const hue = maps[at] === UNCOLOURED ? OTHERWISE : HUES[maps[at]];
    pixels.data.set(hue ? [...hue, 60 + 0.7 * shares[at]] : [0, 0, 0, 150], 4 * i);
  }
  const layerCanvas = make("canvas", { width: cols, height: rows });
  layerCanvas.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  const [x, y] = [0, 1].map((axis) => -frame.offset[1 - axis] / frame.scale[1 - axis]);
  const [wide, high] = [(cols * grid.patch[1]) / frame.scale[1], (rows * grid.patch[0]) / frame.scale[0]];
  context.drawImage(layerCanvas, x, y, wide, high);
  const onclick = () => commit(store, { method: "lens", layer });
  const words = `layer ${layer}: ${line.best.length ? first(line.best[0][0]) : ""}`;
  const button = make(
    "button",
    { type: "button", disabled: store.page, onclick },
    canvas,
    make("span", { textContent: words }),
  );
  button.dataset.layer = layer;
  button.dataset.run = run;
  button.title = `Layer ${layer}: ${lineOf(line, layer)[1]}`;
  return button;
}
