// The elements of a view, named; nothing here knows what they are for.

import { BLENDS } from "./blends.js";
import { INPUTS, PATCHES, SUFFIXES } from "./choices.js";
import { GALLERY, WORDS_ALONE } from "./definitions.js";
import { fill, make, makeDrawing, makeStops } from "./elements.js";
import { makeMarks } from "./marks.js";
import { makeSpoken } from "./prompt.js";

const RANGES = { map: "of each map", shared: "shared by both", absolute: "0 to 1" };
// Controls whose settings only a kernel answers.
const ASKING = ["image", "upload", "model", "detector", "method", "target", "before", "patch_size", "image_size"];

/** Put them into the root -> their names, and out: what stands beside sliders. page: whether there is no kernel. */
export function build(root, page) {
  const ui = { root, out: {} };
  const parts = [topOf(ui), make("div", { className: "main" }, picturesOf(ui), sideOf(ui)), moreOf(ui)];
  root.replaceChildren(...parts);
  ui.back.hidden = !page;
  if (page) {
    for (const name of ASKING) ui[name].parentNode.hidden = true;
    ui.take.hidden = ui.choose.hidden = true;
    ui.compare.hidden = ui.export.hidden = true;
  }
  return ui;
}

const select = () => make("select");
const check = () => make("input", { type: "checkbox" });
const range = (min, max, step) => make("input", { type: "range", min, max, step });
const row = (...children) => make("div", { className: "row" }, ...children);
const heading = (textContent) => make("h3", { textContent });
const section = (title, ...children) => make("section", {}, heading(title), ...children);
const button = (words) => make("button", { type: "button", textContent: words });
const quiet = (words) => make("p", { className: "quiet", textContent: words });
/** Not shown while the picture has the window. */
const detail = (node) => {
  node.classList.add("detail");
  return node;
};
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
  const upload = make("label", { className: "button" }, "upload", ui.upload);
  ui.status = make("span", { className: "status", role: "status" });
  const [image, ...others] = ["image", "model", "detector", "method"].map((name) => field(ui, name, select(), name));
  ui.present = Object.assign(button("present"), { className: "go" });
  ui.undo = Object.assign(button("↶"), { ariaLabel: "undo" });
  ui.redo = Object.assign(button("↷"), { ariaLabel: "redo" });
  ui.allBack = button("patches back");
  ui.history = make("span", { className: "pair" }, ui.undo, ui.redo, ui.allBack);
  const target = field(ui, "target", select(), "for");
  const menus = make("span", { className: "menus" }, image, upload, ...others, target);
  ui.top = make("div", { className: "top" }, menus, ui.history, ui.present, ui.status);
  return ui.top;
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
  ui.note = make("p", { className: "note", role: "status" });
  ui.problem = make("p", { className: "problem", hidden: true });
  ui.told = make("p", { className: "told" });
  ui.telling = make("div", { className: "telling" }, ui.told);
  ui.removed = make("p", { className: "removed", role: "status" });
  ui.back = button("back to what was exported");
  ui.unpin = button("back to CLS");
  const incoming = field(ui, "incoming", check(), "who attends to it");
  const grid = field(ui, "grid", check(), "patch grid");
  const confidence = slider(ui, "minimum", "confidence", range(0.05, 0.95, 0.01), "confidence");
  const closer = field(ui, "two_stage", check(), "each box by itself");
  const zoom = ["−", "whole", "+"].map((words) => button(words));
  [ui.farther, ui.whole, ui.closer] = zoom;
  ui.farther.ariaLabel = "zoom out";
  ui.closer.ariaLabel = "zoom in";
  const pair = make("span", { className: "pair" }, ...zoom);
  const shared = field(ui, "shared", check(), "one range for both");
  const below = row(shared, incoming, grid, ui.unpin, ui.back, pair, confidence, closer);
  ui.diagram = make("div", { className: "diagram" });
  const words = [ui.panes, ui.caption, makeMarks(ui), makeSpoken(ui), ui.telling, ui.note, ui.removed];
  ui.left = make("div", { className: "left" }, ...words, detail(below), foveaOf(ui), ui.diagram);
  return ui.left;
}

function sideOf(ui) {
  ui.count = make("p", { className: "count" });
  ui.why = make("p", { className: "why", role: "status" });
  ui.cost = make("p");
  ui.chart = makeDrawing(220, 72);
  ui.measures = make("p", { className: "measures" });
  ui.fused = make("p", { className: "fused" });
  [ui.predicted, ui.classes] = [heading("Prediction"), make("ol")];
  ui.knows = quiet("");
  ui.leave = Object.assign(button("✕"), { ariaLabel: "leave" });
  ui.choose = Object.assign(button("☰"), { ariaLabel: "choose" });
  const patch = slider(ui, "patch_size", "patch size", range(...PATCHES, 1));
  ui.stops = makeStops(patch);
  const input = slider(ui, "image_size", "input size", range(...INPUTS, 1));
  const keep = slider(ui, "keep", "keep", range(5, 100, 5));
  const dropping = detail(row(field(ui, "keep_by", select(), "kept by"), field(ui, "keep_at", select(), "dropped")));
  ui.dropping = dropping;
  dropping.append(field(ui, "gather", check(), "the rest in one token"));
  const merge = slider(ui, "merge", "merge", range(0, 24, 1));
  ui.spentWhy = make("p", { className: "why", role: "status" });
  [ui.upward, ui.along] = [make("span"), make("span")];
  const plot = make("div", { className: "plot" }, ui.upward, ui.chart, ui.along);
  ui.marks = make("div", { className: "marks" });
  const chart = make("div", { className: "chart" }, plot, ui.marks);
  const scale = slider(ui, "scale", "scale", range(-50, 30, 1));
  ui.scaleStops = makeStops(scale);
  const layer = slider(ui, "layer", "layer", range(0, 11, 1));
  const before = field(ui, "before", check(), "trained model beside it");
  const head = make("div", { className: "row choice" }, field(ui, "head", select(), "head"), detail(before));
  ui.side = make(
    "div",
    { className: "side" },
    make(
      "section",
      {},
      make("div", { className: "head" }, heading("Tokens"), detail(ui.why)),
      ui.count,
      patch,
      detail(input),
      keep,
      dropping,
      detail(merge),
      ui.spentWhy,
      detail(ui.cost),
      detail(chart),
    ),
    section("Attention", scale, layer, head, ui.fused, detail(ui.measures)),
    make("section", {}, ui.predicted, ui.classes, detail(ui.knows)),
    gameOf(ui),
    make("div", { className: "stage" }, ui.choose, ui.leave),
  );
  return ui.side;
}

/** What is drawn of tokens on the photograph: a fovea, and their way through the layers. */
function foveaOf(ui) {
  ui.drawFovea = button("draw");
  ui.onBox = button("on the box");
  ui.noFovea = button("none");
  const patches = detail(field(ui, "fovea_patches", select(), "patches of the fovea"));
  patches.firstChild.hidden = true;
  const buttons = make("span", { className: "pair" }, ui.drawFovea, ui.onBox, ui.noFovea);
  ui.pass = button("▶ through the layers");
  ui.mapAgain = button("map again");
  const passed = slider(ui, "passed", "tokens of layer", range(0, 11, 1));
  ui.passing = make("span", { className: "passing" }, ui.pass, ui.mapAgain, passed);
  ui.drawn = row(make("span", { className: "told-of", textContent: "fovea" }), buttons, patches, ui.passing);
  return ui.drawn;
}

function moreOf(ui) {
  ui.maps = make("div", { className: "atlas" });
  ui.atlasWords = quiet("");
  ui.allOn = button("all heads on");
  ui.knocked = make("p", { className: "knocked", role: "status" });
  ui.lensWords = quiet("");
  ui.lensTable = make("table");
  ui.lensMaps = make("div", { className: "gallery small" });
  ui.lensKey = make("p", { className: "key" });
  const early = make("div", { className: "early" }, ui.lensTable, make("div", {}, ui.lensKey, ui.lensMaps));
  ui.gallery = make("div", { className: "gallery" });
  ui.call = make("pre");
  ui.copy = button("copy");
  ui.exports = Object.entries(SUFFIXES).map(([value, words]) => Object.assign(button(words), { value }));
  ui.maskExports = ["PNG", "NPZ"].map((kind) =>
    Object.assign(button(`masks, ${kind}`), { value: `.${kind.toLowerCase()}` }),
  );
  const look = [
    slider(ui, "opacity", "opacity", range(0, 1, 0.01)),
    field(ui, "blend", select(), "blend"),
    field(ui, "colormap", select(), "colours"),
    field(ui, "normalise", select(), "range"),
    slider(ui, "threshold", "hide below", range(0, 1, 0.01)),
    field(ui, "smooth", check(), "smooth between patches"),
  ];
  fill(ui.blend, Object.keys(BLENDS), (name) => BLENDS[name], "value");
  fill(ui.normalise, Object.keys(RANGES), (name) => RANGES[name], "map");
  ui.wordsAlone = quiet(WORDS_ALONE);
  const another = [field(ui, "what", select(), "the same, but another"), field(ui, "which", select(), "namely")];
  return make(
    "div",
    { className: "more" },
    fold(ui, "display", "View", row(...look)),
    fold(ui, "atlas", "Head atlas", ui.atlasWords, row(ui.allOn, ui.knocked), ui.maps),
    fold(ui, "lens", "Lens", ui.lensWords, early),
    fold(ui, "every", "All methods", quiet(GALLERY), ui.gallery),
    fold(ui, "compare", "Compare", row(...another), ui.wordsAlone),
    fold(ui, "export", "Export", row(...ui.exports, ...ui.maskExports), ui.call, ui.copy),
  );
}

/** Patches that are taken away: what there is to press, and what became of the class. */
function gameOf(ui) {
  ui.take = button("by mouse");
  ui.films = { deletion: button("▶ deletion"), insertion: button("▶ insertion") };
  const step = field(ui, "step", range(0, 28, 1), "step");
  ui.fall = makeDrawing(320, 132);
  ui.shares = ends();
  ui.area = quiet("");
  const fall = make("div", { className: "fall" }, ends("100 %", "0 %"), ui.fall, make("span"), ui.shares);
  ui.fell = make("div", {}, fall, detail(ui.area));
  for (const film of Object.values(ui.films)) film.classList.add("film");
  ui.films.insertion.classList.add("later");
  ui.game = row(ui.take, ...Object.values(ui.films));
  return section("Take patches away", ui.game, step, ui.fell);
}
