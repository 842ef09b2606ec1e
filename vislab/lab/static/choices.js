// What there is to choose from: the lists behind menus, and the steps of sliders.

import { now, sizesOf, takes } from "./settings.js";

export const PATCHES = [4, 64]; // px, the ends of the slider
export const INPUTS = [64, 1024];
export const KEPT_BY = ["attention", "norm", "random", "centre"];
export const SUFFIXES = {
  ".png": "PNG",
  ".svg": "SVG",
  ".pdf": "PDF",
  ".npz": "NPZ, the data",
  ".html": "HTML, live without Python",
}; // of the files that a view is exported as

/** Patch sizes that divide both sides of an input. */
export function dividing(size, least, most) {
  const all = Array.from({ length: most - least + 1 }, (_, i) => least + i);
  return all.filter((p) => size[0] % p === 0 && size[1] % p === 0);
}

/** Input sizes that patches fill. */
export function multiples(patch, least, most) {
  const all = Array.from({ length: Math.floor(most / patch) }, (_, i) => (i + 1) * patch);
  return all.filter((s) => s >= least);
}

/** The allowed value nearest to what a slider says. */
export const nearest = (raw, allowed) =>
  allowed.reduce((best, v) => (Math.abs(v - raw) < Math.abs(best - raw) ? v : best));

/** As `nearest`; but a step away from the current value always reaches its neighbour. */
export function snap(raw, current, allowed) {
  const near = nearest(raw, allowed);
  if (near !== current || raw === current) return near;
  const further = allowed.filter((v) => (raw > current ? v > current : v < current));
  return further.length ? (raw > current ? further[0] : further.at(-1)) : current;
}

/** Slider steps -50…30 -> attention scale 0.1…4, as many steps between any two halvings; and back. */
export const scaleAt = (i) => Math.max(0.1, Number((4 ** (i / 30)).toPrecision(3)));
export const scaleStep = (s) => Math.round((30 * Math.log(s)) / Math.log(4));
export const SCALES = [0.25, 0.5, 1, 2, 4]; // that the slider catches at
const CATCH = 2; // steps

/** The step at which a slider in hand catches; where it is far from all marks, its own. */
export const catching = (step) => SCALES.map(scaleStep).find((mark) => Math.abs(mark - step) <= CATCH) ?? step;

/** For patch and input size the values that go with the other one; both: as `sizesOf` has them. */
export const FITTING = {
  patch_size: ([size]) => dividing(size, ...PATCHES),
  image_size: ([, patch]) => multiples(patch[0], ...INPUTS),
};

/** Those that the model has. Attention of a token is no choice of its own: it is that of CLS where a patch is pinned. */
export const methodNames = ({ state }) => {
  const { methods, reads } = state.panes[0].shown?.model ?? { methods: Object.keys(state.about.methods) };
  return Object.keys(state.about.methods).filter((name) => methods.includes(name) && (reads || name !== "attention"));
};

export const modelNames = (store) =>
  [...new Set(["embedded", now(store, "model"), ...Object.keys(store.state.about.models)])].filter(Boolean);

/** Whether a model needs no download; of one that is not listed, who chose it knows. */
export const isHeld = ({ state: { about } }, name) => !(name in about.models) || about.held.includes(name);

export const sampleNames = ({ port, state }) => {
  const { samples } = state.about;
  const image = port.get("image");
  const known = [...samples, ...(port.get("_uploads") ?? [])];
  return known.includes(image) ? known : [image, ...known];
};

export const headNames = ({ model }) => ["mean", "max", "min", ...Array(model.heads).keys()];

/** Classes that can be asked for: all of a few, else the most probable; null is the predicted one. */
export const targetsOf = (store, { model, classes }) => [
  ...new Set([null, ...(model.labels ?? classes.map(([name]) => name)), now(store, "target")]),
];

/** Setting -> its values, of those in which a second picture can differ. compared: the setting in which it does. */
export function comparable(store, shown, compared) {
  const { model } = shown;
  const both = sizesOf(store, model);
  const sizes = FITTING.image_size(both);
  const step = Math.ceil(sizes.length / 16);
  return {
    method: methodNames(store),
    layer: [...Array(model.layers).keys(), "mean"],
    head: headNames(shown),
    attention_scale: [0.1, ...SCALES],
    keep: [1, 0.7, 0.5, 0.3, 0.1],
    ...(now(store, "keep") < 1 ? { keep_by: KEPT_BY, gather: [false, true] } : {}),
    merge: [0, 4, 8, 16],
    patch_size: FITTING.patch_size(both),
    image_size: sizes.filter((_, i) => i % step === 0),
    model: modelNames(store).filter((name) => !store.state.about.readers.includes(name)),
    ...(takes(store, "target") || compared === "target" ? { target: targetsOf(store, shown) } : {}),
  };
}
