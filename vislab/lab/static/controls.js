// Controls bound to settings: menus, sliders and boxes to tick, each with what it shows and what it sets.

import { methodWords } from "./asking.js";
import {
  catching,
  comparable,
  headNames,
  isHeld,
  methodNames,
  modelNames,
  SCALES,
  sampleNames,
  scaleAt,
  scaleStep,
  targetsOf,
} from "./choices.js";
import { fill, inHand, showStops } from "./elements.js";
import { commit, isTwo, layerIndex, methodName, now, takes, visibleBoxes, withoutChoice } from "./settings.js";
import { boxCount } from "./words.js";

const OWN = "your own"; // what has no name

/** Bind them all -> [{name, show}, …]: show(value, shown) writes a setting's value into its control. */
export const bindControls = (store, ui) => [
  ...bindMenus(store, ui),
  ...bindShares(store, ui),
  ...bindTicks(store, ui),
  ...bindAttention(store, ui),
  ...bindCompare(store, ui),
];

/**
 * show: as above; read: from the control's value to the setting's; live: whether it is shown while it is dragged, which
 * is a slider's: a double click on it, or on its name, is a way back to what it says at first.
 */
export function bind(store, node, name, { show, read = (v) => v, live = false }) {
  if (live) {
    node.parentNode.addEventListener("dblclick", () => {
      const { usual } = store.state.about;
      if (!node.disabled && name in usual) commit(store, { [name]: usual[name] });
    });
    node.addEventListener("input", () => {
      store.change({ drag: { ...store.state.drag, [name]: read(node.value) } });
    });
  }
  node.addEventListener("change", () => commit(store, { [name]: read(node.value) }));
  return { name, show };
}

function bindMenus(store, ui) {
  return [
    bind(store, ui.image, "image", {
      show: (v) => fill(ui.image, sampleNames(store), (name) => name || "your photograph", v),
    }),
    bind(store, ui.method, "method", {
      show(v) {
        const names = [...new Set([...methodNames(store), ...(v === "attention" ? [v] : [])])];
        fill(ui.method, names, (name) => methodWords(store, name), v);
      },
    }),
    bindModel(store, ui),
    bind(store, ui.target, "target", {
      read: (v) => JSON.parse(v),
      show(v, shown) {
        ui.target.parentNode.hidden = store.page || !takes(store, "target");
        if (shown) fillJson(ui.target, targetsOf(store, shown), v ?? null);
      },
    }),
    bind(store, ui.detector, "detector", {
      read: (v) => (v === "none" ? null : v),
      show(v) {
        const chosen = v === "" ? OWN : (v ?? "none");
        fill(ui.detector, [...new Set(["none", "embedded", chosen])], (name) => name, chosen);
      },
    }),
    bind(store, ui.colormap, "colormap", {
      show: (v) => fill(ui.colormap, store.state.about.colormaps, (name) => name, v),
    }),
    ...["normalise", "blend"].map((name) =>
      bind(store, ui[name], name, {
        show(v) {
          ui[name].value = v;
        },
      }),
    ),
    bind(store, ui.head, "head", {
      read: (v) => (isNumber(v) ? Number(v) : v),
      show(v, shown) {
        if (!shown) return;
        const words = (name) => (isNumber(name) ? `head ${name}` : `heads: ${name}`);
        fill(ui.head, headNames(shown).map(String), words, String(v < 0 ? v + shown.model.heads : v));
        const fused = withoutChoice(store).includes("head");
        for (const option of ui.head.options) option.disabled = fused && isNumber(option.value);
        ui.head.disabled = fused && !takes(store, "head");
      },
    }),
  ];
}

const isNumber = (text) => !Number.isNaN(Number(text));

/** A select over values that are not all texts. */
function fillJson(node, values, value, words = (one) => one) {
  const texts = values.map((one) => JSON.stringify(one));
  fill(node, texts, (text) => words(JSON.parse(text)) ?? "the predicted class", JSON.stringify(value));
}

/** Another model has other layers, heads and sizes. */
function bindModel(store, { model }) {
  const afresh = { layer: -1, head: "mean", patch_size: null, image_size: null, keep_at: null, word: null };
  model.addEventListener("change", () => commit(store, { model: model.value, ...afresh }));
  const words = (name) => `${name || OWN}${isHeld(store, name) ? "" : " ↓"}`;
  const show = (v) => fill(model, [...(v ? [] : [""]), ...modelNames(store)], words, v);
  return { name: "model", show };
}

/** Sliders over shares, in per cent; beside the confidence, how many boxes are above it. */
function bindShares(store, ui) {
  return Object.entries({ opacity: ui.opacity, threshold: ui.threshold, confidence: ui.minimum }).map(([name, node]) =>
    bind(store, node, name, {
      read: Number,
      live: true,
      show(v) {
        const count =
          name === "confidence" && store.state.boxes?.boxes ? ` · ${boxCount(visibleBoxes(store).length)}` : "";
        node.value = v;
        ui.out[name].textContent = `${Math.round(100 * v)} %${count}`;
      },
    }),
  );
}

function bindTicks(store, ui) {
  const shared = bind(store, ui.shared, "normalise", {
    read: () => (ui.shared.checked ? "shared" : "map"),
    show(v) {
      ui.shared.checked = v === "shared";
      ui.shared.parentNode.hidden = !isTwo(store);
    },
  });
  const own = ["smooth", "grid", "incoming", "before", "two_stage", "masked"].map((name) =>
    bind(store, ui[name], name, {
      read: () => ui[name].checked,
      show(v) {
        ui[name].checked = v;
      },
    }),
  );
  return [shared, ...own];
}

function bindAttention(store, { scale, scaleStops, layer, out }) {
  const ends = [Number(scale.min), Number(scale.max)];
  showStops(scaleStops, SCALES.map(scaleStep), ends);
  const held = inHand(scale);
  return [
    bind(store, scale, "attention_scale", {
      read(v) {
        const step = held() ? catching(Number(v)) : Number(v);
        scale.value = step;
        return scaleAt(step);
      },
      live: true,
      show(v) {
        scale.value = scaleStep(v);
        out.scale.textContent = `× ${v}`;
        scale.setAttribute("aria-valuetext", `times ${v}`);
      },
    }),
    bind(store, layer, "layer", {
      read: Number,
      live: true,
      show(v, shown) {
        if (!shown) return;
        const { layers } = shown.model;
        const index = layerIndex(shown, v);
        const all = withoutChoice(store).includes("layer");
        Object.assign(layer, { max: layers - 1, value: index, disabled: all });
        out.layer.textContent = all ? "all" : v === "mean" ? "mean" : `${index} of 0–${layers - 1}`;
      },
    }),
  ];
}

/** The setting in which the second picture is another, and its value there. */
function bindCompare(store, { what, which }) {
  const shown = () => store.state.panes[0].shown;
  what.addEventListener("change", () => {
    const name = what.value;
    const other = () => comparable(store, shown(), name)[name].find((value) => value !== now(store, name));
    commit(store, { compare: name ? { [name]: other() } : {} });
  });
  which.addEventListener("change", () => commit(store, { compare: { [what.value]: JSON.parse(which.value) } }));
  const show = (compared) => {
    if (!shown() || !store.state.unfolded.compare) return;
    const [name] = Object.keys(compared);
    const values = comparable(store, shown(), name);
    fill(what, ["", ...Object.keys(values)], (one) => (one ? one.replace("_", " ") : "nothing"), name ?? "");
    which.parentNode.hidden = !name;
    if (!name) return;
    const words = (value) => (name === "method" ? methodName(store, value) : value);
    fillJson(which, values[name], compared[name], words);
  };
  return [{ name: "compare", show }];
}
