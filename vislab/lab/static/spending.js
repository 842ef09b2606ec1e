// Controls of how tokens are spent: keep, merge, the fovea's patches, and the way through the layers; and what says why a
// model, a method or a page cannot.

import { KEPT_BY } from "./choices.js";
import { bind } from "./controls.js";
import { fill, say } from "./elements.js";
import { layerPassed, passTo, playPassing } from "./passing.js";
import { commit, methodName, now, visibleBoxes } from "./settings.js";
import { isSpent, planOf } from "./tokens.js";

const NESTED = [
  [8, 32],
  [8, 16],
  [16, 32],
  [8, 16, 32],
];
const DIGITS = 4; // of the map's values that patches are kept by
const THE_MAP = "map"; // a choice: the values of the map that is shown become those that patches are kept by
const WAYS = { keep: "keep", merge: "merge", fovea: "fovea", heads_off: "heads off" };

/** Bind them -> controls, as `bindControls` has them. */
export function bindSpending(store, ui) {
  ui.pass.addEventListener("click", () => playPassing(store));
  ui.passed.addEventListener("input", () => passTo(store, Number(ui.passed.value)));
  ui.mapAgain.addEventListener("click", () => passTo(store, null));
  ui.canvas.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || layerPassed(store) === null) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    passTo(store, null);
  });
  store.subscribe(() => {
    const { passing, panes } = store.state;
    if (passing !== null && !panes[0].shown?.owners) passTo(store, null); // it does not come back with other tokens
  });
  return [
    ...bindSliders(store, ui),
    ...bindDropping(store, ui),
    bindPatches(store, ui),
    { name: "fovea", show: () => showFovea(store, ui) },
  ];
}

function bindSliders(store, ui) {
  const { keep, merge, out } = ui;
  return [
    bind(store, keep, "keep", {
      read: (v) => Number(v) / 100,
      live: true,
      show(v) {
        keep.value = Math.round(100 * v);
        out.keep.textContent = `${Math.round(100 * v)} %`;
        keep.disabled = Boolean(whyUnspent(store, "keep"));
      },
    }),
    bind(store, merge, "merge", {
      read: Number,
      live: true,
      show(v, shown) {
        if (!shown) return;
        const { rows, cols } = planOf(store, shown);
        merge.max = Math.max(v, 1, Math.floor((rows * cols) / 8));
        merge.value = v;
        out.merge.textContent = v ? `${v} a layer` : "none";
        merge.disabled = Boolean(whyUnspent(store, "merge"));
      },
    }),
  ];
}

/** What decides which patches go, before which layers, and whether into one token: where some go at all. */
function bindDropping(store, ui) {
  const { keep_by: by, keep_at: at, gather } = ui;
  by.addEventListener("change", () => {
    const keep_by = by.value === THE_MAP ? shownMap(store.state.panes[0]) : JSON.parse(by.value);
    commit(store, { keep_by });
  });
  at.addEventListener("change", () => commit(store, { keep_at: JSON.parse(at.value) }));
  return [
    { name: "keep_by", show: (value) => showDropping(store, ui, value) },
    {
      name: "keep_at",
      show(value, shown) {
        if (!shown) return;
        const each = Array.from({ length: shown.model.layers }, (_, layer) => [layer]);
        const all = [...new Set([null, ...each, value].map((one) => JSON.stringify(one)))];
        fill(at, all, (text) => stagesInWords(JSON.parse(text)), JSON.stringify(value));
        const byAttention = now(store, "keep_by") === "attention";
        for (const option of at.options) option.disabled = byAttention && option.value === "[0]";
      },
    },
    bind(store, gather, "gather", {
      read: () => gather.checked,
      show(value) {
        gather.checked = value;
        gather.disabled = Boolean(whyUnspent(store, "keep") || whyUnspent(store, "gather"));
      },
    }),
  ];
}

function showDropping(store, { dropping, keep_by: by, keep_at: at }, value) {
  dropping.hidden = !(now(store, "keep") < 1);
  const said = JSON.stringify(value);
  const known = KEPT_BY.map((name) => JSON.stringify(name));
  const names = { [THE_MAP]: "the map shown", ...(known.includes(said) ? {} : { [said]: "a map's values" }) };
  fill(by, [...new Set([...known, said, THE_MAP])], (one) => names[one] ?? JSON.parse(one), said);
  by.options[0].disabled = now(store, "keep_at")?.includes(0) ?? false;
  by.disabled = at.disabled = Boolean(whyUnspent(store, "keep"));
}

const stagesInWords = (layers) =>
  layers ? `before layer${layers.length > 1 ? "s" : ""} ${layers.join(", ")}` : "in three stages";

/** The values of the map that is shown, as rows; rounded, for they stand in the Python call. */
function shownMap({ shown, values }) {
  const { rows, cols } = shown.grid;
  const all = Array.from(values, (v) => Number(v.toPrecision(DIGITS)));
  return Array.from({ length: rows }, (_, row) => all.slice(row * cols, (row + 1) * cols));
}

function bindPatches(store, { fovea_patches: node }) {
  node.addEventListener("change", () => commit(store, { fovea_patches: JSON.parse(node.value) }));
  return {
    name: "fovea_patches",
    show(value) {
      const all = [...new Set([...NESTED, value].map((one) => JSON.stringify(one)))];
      fill(node, all, (text) => `${JSON.parse(text).join(" in ")} px`, JSON.stringify(value));
    },
  };
}

/** Why tokens cannot be spent in a way, "keep", "merge", "fovea" or "heads_off"; "" where they can. */
export function whyUnspent(store, way) {
  const { alone, plain, panes, about } = store.state;
  if (store.page) return "No model runs in this page: in a notebook tokens can be spent otherwise.";
  if (alone) return "Without a kernel no model runs: run the cell again.";
  const method = now(store, "method");
  if (about?.methods[method]?.every_patch && way !== "heads_off")
    return `${methodName(store, method)} reads every patch in every layer: take another method to spend tokens.`;
  return (panes[0].shown && plain?.bound?.[way]) || "";
}

/** What there is to press, and why not. */
function showFovea(store, ui) {
  const { tool, panes } = store.state;
  const { shown } = panes[0];
  const fovea = now(store, "fovea");
  const not = whyUnspent(store, "fovea");
  ui.drawFovea.disabled = Boolean(not) || !shown;
  ui.drawFovea.setAttribute("aria-pressed", String(tool === "fovea"));
  ui.canvas.dataset.tool = tool;
  ui.onBox.disabled = Boolean(not) || !shown || visibleBoxes(store).length === 0;
  ui.noFovea.hidden = !fovea;
  ui.noFovea.disabled = Boolean(not);
  ui.fovea_patches.parentNode.hidden = !fovea;
  ui.fovea_patches.disabled = Boolean(not);
  if (fovea && shown) {
    ui.patch_size.disabled = true;
    ui.out.patch_size.textContent = `${now(store, "fovea_patches").join(" · ")} px`;
  }
  const reasons = Object.keys(WAYS).filter((way) => way !== "heads_off" && whyUnspent(store, way));
  const words = [...new Set(reasons.map((way) => whyUnspent(store, way)))];
  say(ui.spentWhy, store.state.tool === "fovea" ? DRAWING : words.join(" "));
  for (const option of ui.method.options) {
    option.disabled = isSpent(store) && Boolean(store.state.about.methods[option.value]?.every_patch);
    option.title = option.disabled
      ? "Reads every patch in every layer: keep all, merge none, and take no fovea first."
      : "";
  }
  showPassing(store, ui, shown);
}

const DRAWING = "Drag on the photograph; a drag within the fovea moves it. Arrow keys do too, Escape ends.";

function showPassing(store, ui, shown) {
  const home = store.state.presenting ? ui.count.parentNode : ui.left;
  if (ui.drawn.parentNode !== home) home.append(ui.drawn);
  const spent = Boolean(shown?.owners);
  const at = layerPassed(store);
  ui.passing.hidden = !spent;
  ui.root.classList.toggle("passes", at !== null);
  if (!spent) return;
  ui.pass.textContent = `${store.state.passClock ? "❚❚" : "▶"} through the layers`;
  ui.pass.setAttribute("aria-pressed", String(at !== null));
  ui.mapAgain.hidden = ui.passed.parentNode.hidden = at === null;
  Object.assign(ui.passed, { max: shown.model.layers - 1, value: Math.round(at ?? 0) });
  ui.out.passed.textContent = `${Math.round(at ?? 0)} of 0–${shown.model.layers - 1}`;
}
