// The head atlas: every head of every layer, small; a click makes it the picture.

import { coloured, span } from "./colours.js";
import { make } from "./elements.js";
import { headSwitch, layerSwitch, showKnockout } from "./knockout.js";
import { coloursOf } from "./picture.js";
import { commit, layerIndex, methodName, now } from "./settings.js";

/** Show the atlas of the shown run; asks for it, once a run. */
export function showAtlas(store, ui, shown) {
  const { port, memory } = store;
  const { atlas } = store.state;
  if (memory.atlasRun !== shown.run) {
    memory.atlasRun = shown.run;
    port.send({ kind: "atlas", run: shown.run });
  }
  if (!atlas) return;
  if (atlas.refused) {
    ui.atlasWords.textContent = atlas.refused;
    ui.maps.dataset.key = ui.maps.dataset.shape = "";
    return ui.maps.replaceChildren();
  }
  const key = `${atlas.run}:${now(store, "colormap")}`;
  if (ui.maps.dataset.key !== key) {
    ui.maps.dataset.key = key;
    layOut(store, ui, atlas);
  }
  const chosen = `${layerIndex(shown, now(store, "layer"))}:${now(store, "head")}`;
  showKnockout(store, ui, shown);
  for (const cell of ui.maps.querySelectorAll("button[data-at]")) {
    cell.setAttribute("aria-pressed", String(cell.dataset.at === chosen));
  }
}

/** One row a head, one column a layer; while these are as many, the buttons stay, and with them the focus. */
function layOut(store, ui, atlas) {
  const { cls, entropy, even, queries } = atlas;
  const heads = entropy[0].length;
  const shape = `${entropy.length}:${heads}`;
  if (ui.maps.dataset.shape !== shape) {
    ui.maps.dataset.shape = shape;
    ui.maps.style.setProperty("--layers", entropy.length);
    const names = entropy.map((_, l) => layerSwitch(store, l, heads));
    const cells = entropy[0].flatMap((_, h) => [
      make("span", { className: "row", textContent: h }),
      ...entropy.map((_, l) => make("div", { className: "cell" }, atlasButton(store, l, h), headSwitch(store, l, h))),
    ]);
    ui.maps.replaceChildren(make("span", { textContent: "head" }), ...names, ...cells);
  }
  for (const button of ui.maps.querySelectorAll("button[data-at]")) fillButton(store, button, atlas);
  const all = [...new Set(span(even).map((px) => px.toFixed(0)))].join("–");
  const what = cls ? "What CLS attends to" : "What patches attend to on average";
  ui.atlasWords.textContent = `${what}, each map in its own colours. Below each: entropy in bits and mean attention distance in px of the input, means over ${queries} patches; of attention spread evenly that distance is ${all} px.`;
}

/** Make a head the picture, and say what became of the method. */
function openHead(store, layer, head) {
  const method = now(store, "method");
  const other = method !== "cls" && method !== "attention" && !store.page;
  const words = `Layer ${layer}, head ${head}: attention of this head alone.`;
  const way = { [`back to ${methodName(store, method)}`]: { method, layer: -1, head: "mean" } };
  commit(store, { method: "cls", layer, head }, { note: other ? { words, ways: way } : null });
}

function atlasButton(store, layer, head) {
  const button = make("button", { type: "button", onclick: () => openHead(store, layer, head) });
  button.dataset.at = `${layer}:${head}`;
  return button;
}

/** maps: [layers, heads, rows, cols]; entropy, distance: [layers][heads]. */
function fillButton(store, button, { grid: [rows, cols], maps, entropy, distance }) {
  const [layer, head] = button.dataset.at.split(":").map(Number);
  const size = rows * cols;
  const start = (layer * entropy[0].length + head) * size;
  const values = maps.subarray(start, start + size);
  const canvas = make("canvas", { width: cols, height: rows });
  const [high, wide] = store.port.get("_source");
  const pixels = coloured(values, span(values), coloursOf(store));
  canvas.getContext("2d").putImageData(new ImageData(pixels, cols, rows), 0, 0);
  canvas.style.aspectRatio = wide / high;
  const [bits, px] = [entropy[layer][head].toFixed(1), distance[layer][head].toFixed(0)];
  button.replaceChildren(canvas, ...[bits, `${px} px`].map((words) => make("span", { textContent: words })));
  button.setAttribute("aria-label", `Layer ${layer}, head ${head}: entropy ${bits} bits, distance ${px} pixels`);
}
