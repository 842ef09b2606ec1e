// What there is to choose from: the lists behind menus, and the sizes that sliders stop at.

import { dividing, multiples } from "./places.js";
import { now, sizesOf, takes } from "./settings.js";

export const PATCHES = [4, 64]; // px, the ends of the slider
export const INPUTS = [64, 1024];

/** For patch and input size the values that go with the other one; both: as `sizesOf` has them. */
export const FITTING = {
  patch_size: ([size]) => dividing(size, ...PATCHES),
  image_size: ([, patch]) => multiples(patch[0], ...INPUTS),
};

/** Attention of a token is no choice of its own: it is that of CLS where a patch is pinned. */
export const methodNames = ({ state }) => Object.keys(state.about.methods).filter((name) => name !== "attention");

export const modelNames = (store) =>
  [...new Set(["embedded", now(store, "model"), ...Object.keys(store.state.about.models)])].filter(Boolean);

export const sampleNames = ({ port, state }) => {
  const { samples } = state.about;
  const image = port.get("image");
  return samples.includes(image) ? samples : [image, ...samples];
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
    attention_scale: [0.1, 0.25, 0.5, 1, 2, 4],
    patch_size: FITTING.patch_size(both),
    image_size: sizes.filter((_, i) => i % step === 0),
    model: modelNames(store),
    ...(takes(store, "target") || compared === "target" ? { target: targetsOf(store, shown) } : {}),
  };
}
