// The elements of a view, named; nothing here knows what they are for.

import { INPUTS, PATCHES } from "./choices.js";
import { fill, make, makeDrawing } from "./elements.js";

const SUFFIXES = {
  ".png": "PNG",
  ".svg": "SVG",
  ".pdf": "PDF",
  ".npz": "NPZ, the data",
  ".html": "HTML, live without Python",
};
const RANGES = { map: "of each map", shared: "shared by both", absolute: "0 to 1" };
// Controls whose settings only a kernel answers.
const ASKING = ["image", "upload", "model", "detector", "method", "target", "before", "patch_size", "image_size"];
const REMOVAL =
  "Take away the patches that are highest in the map above, and watch the class go. A patch that is gone shows the image blurred until its shapes are.";
const GALLERY =
  "The same image by every method, from the last layer and all heads. Below each, the area under the class's probability while patches are taken away in the map's order (deletion, lower is better) and put back (insertion, higher is better). A map worth believing beats a random order.";

/** Put them into the root -> their names, and out: what stands beside sliders. page: whether there is no kernel. */
export function build(root, page) {
  const ui = { out: {} };
  const parts = [topOf(ui), make("div", { className: "main" }, picturesOf(ui), sideOf(ui)), moreOf(ui)];
  root.replaceChildren(...parts);
  ui.back.hidden = !page;
  if (page) {
    for (const name of ASKING) ui[name].parentNode.hidden = true;
    ui.compare.hidden = ui.export.hidden = true;
  }
  return ui;
}

const select = () => make("select");
const check = () => make("input", { type: "checkbox" });
const range = (min, max, step, more = {}) => make("input", { type: "range", min, max, step, ...more });
const row = (...children) => make("div", { className: "row" }, ...children);
const section = (title, ...children) => make("section", {}, make("h3", { textContent: title }), ...children);
const button = (words) => make("button", { type: "button", textContent: words });
const quiet = (words) => make("p", { className: "quiet", textContent: words });
const ends = (...words) => {
  const spans = words.map((one) => make("span", { textContent: one }));
  return make("div", { className: "ends" }, ...spans);
};

/** A control under a name, in its label. */
function field(ui, name, node, words, ...more) {
  ui[name] = node;
  node.setAttribute("aria-label", words); // the label holds the value too, which is no part of the name
  return make("label", {}, make("span", { textContent: words }), node, ...more);
}

/** A slider with what it says beside it. key: of that in out. */
function slider(ui, name, words, node, key = name) {
  ui.out[key] = make("output");
  return field(ui, name, node, words, ui.out[key]);
}

function fold(ui, name, words, ...children) {
  ui[name] = make("details", {}, make("summary", { textContent: words }), ...children);
  return ui[name];
}

function topOf(ui) {
  ui.upload = make("input", { type: "file", accept: "image/*" });
  ui.upload.setAttribute("aria-label", "Upload a photograph");
  const upload = make("label", { className: "button", title: "a photograph of your own" }, "upload", ui.upload);
  ui.status = make("span", { className: "status", role: "status" });
  const [image, ...others] = ["image", "model", "detector", "method"].map((name) => field(ui, name, select(), name));
  return make("div", { className: "top" }, image, upload, ...others, field(ui, "target", select(), "for"), ui.status);
}

function figureOf() {
  const canvas = make("canvas", { tabIndex: 0, role: "application" });
  const name = make("b");
  const title = make("span");
  const ramp = make("canvas", { width: 256, height: 1 });
  const numbers = make("div", { className: "numbers" });
  const bar = make("div", { className: "colours", role: "img" }, ramp, numbers);
  const box = make("figure", {}, make("figcaption", {}, name, " ", title), canvas, bar);
  return { box, canvas, name, title, bar, ramp, numbers, layer: make("canvas") };
}

function picturesOf(ui) {
  ui.figures = [figureOf(), figureOf()];
  const [first, second] = ui.figures;
  ui.canvas = first.canvas;
  second.box.hidden = true;
  second.canvas.tabIndex = -1;
  second.canvas.setAttribute("aria-hidden", "true");
  ui.panes = make("div", { className: "panes" }, first.box, second.box);
  ui.caption = make("p", { className: "caption", role: "status" });
  ui.back = button("back to what was exported");
  ui.unpin = Object.assign(button("back to CLS"), { title: "Escape on the photograph" });
  const incoming = field(ui, "incoming", check(), "who attends to it");
  const grid = field(ui, "grid", check(), "patch grid");
  const confidence = slider(ui, "minimum", "confidence", range(0.05, 0.95, 0.01), "confidence");
  const closer = field(ui, "two_stage", check(), "each box by itself");
  return make("div", {}, ui.panes, ui.caption, row(incoming, grid, ui.unpin, ui.back, confidence, closer));
}

function sideOf(ui) {
  ui.count = make("p", { className: "count" });
  ui.why = make("p", { className: "why", role: "status" });
  ui.cost = make("p");
  ui.chart = makeDrawing(220, 72);
  ui.measures = make("p");
  ui.classes = make("ol");
  ui.knows = quiet("");
  const id = `vislab-one-${Math.random().toString(36).slice(2)}`;
  const one = make("datalist", { id }, make("option", { value: "0" }));
  const patch = slider(ui, "patch_size", "patch size", range(...PATCHES, 1));
  const input = slider(ui, "image_size", "input size", range(...INPUTS, 1));
  const chart = make("div", { className: "chart" }, ui.chart, make("div", { className: "marks" }));
  const scale = slider(ui, "scale", "scale", range(-50, 30, 1, { list: id }));
  const layer = slider(ui, "layer", "layer", range(0, 11, 1));
  const head = field(ui, "head", select(), "head");
  const before = row(field(ui, "before", check(), "show × 1 beside it"));
  return make(
    "div",
    { className: "side" },
    section("Tokens", ui.count, patch, input, ui.why, ui.cost, chart),
    section("Attention", scale, one, layer, head, ui.measures, before),
    section("Prediction", ui.classes, ui.knows),
  );
}

function moreOf(ui) {
  ui.maps = make("div", { className: "atlas" });
  ui.atlasWords = quiet("");
  ui.gallery = make("div", { className: "gallery" });
  ui.call = make("pre");
  ui.copy = button("copy");
  ui.exports = Object.entries(SUFFIXES).map(([value, words]) => Object.assign(button(words), { value }));
  const look = [
    slider(ui, "opacity", "opacity", range(0, 1, 0.01)),
    field(ui, "colormap", select(), "colours"),
    field(ui, "normalise", select(), "range"),
    slider(ui, "threshold", "hide below", range(0, 1, 0.01)),
    field(ui, "smooth", check(), "smooth between patches"),
  ];
  fill(ui.normalise, Object.keys(RANGES), (name) => RANGES[name], "map");
  const another = [field(ui, "what", select(), "the same, but another"), field(ui, "which", select(), "namely")];
  return make(
    "div",
    { className: "more" },
    fold(ui, "display", "View", row(...look)),
    fold(ui, "atlas", "Head atlas", ui.atlasWords, ui.maps),
    fold(ui, "every", "All methods", removalOf(ui), quiet(GALLERY), ui.gallery),
    fold(ui, "compare", "Compare", row(...another)),
    fold(ui, "export", "Export", row(...ui.exports), ui.call, ui.copy),
  );
}

function removalOf(ui) {
  ui.without = make("canvas", { role: "img" });
  ui.without.setAttribute("aria-label", "The photograph without the patches that are gone");
  ui.play = button("play");
  ui.removed = make("p");
  ui.fall = makeDrawing(320, 132);
  const [up, along] = [ends("100 %", "0 %"), ends("no patch gone", "all gone")];
  const fall = make("div", { className: "fall" }, up, ui.fall, make("span"), along);
  const play = row(ui.play, field(ui, "step", range(0, 28, 1), "patches gone"));
  const beside = make("div", {}, make("p", { textContent: REMOVAL }), play, ui.removed, fall);
  return make("div", { className: "removal" }, ui.without, beside);
}
