// Sliders of patch and input size, which stop only where both go together.

import { FITTING, nearest, PATCHES, snap } from "./choices.js";
import { bind } from "./controls.js";
import { inHand, say, showStops } from "./elements.js";
import { now, sizesOf } from "./settings.js";

/** Why a slider stops at another size than it was drawn to, in a line of its column; "" where that is for no such reason. */
const MISFIT = {
  patch_size: (raw, to, [size]) => (size[0] % raw ? `${raw} px do not fill ${size[0]} px; ${to} px do.` : ""),
  image_size: (raw, to, [, patch]) => (raw % patch[0] ? `Patches fill ${to} px, not ${raw} px.` : ""),
};

/** Sizes of input and patch; of a fovea the largest patches, which the input must hold whole. */
function fitting(store, model) {
  const [size, patch] = sizesOf(store, model);
  const largest = now(store, "fovea") ? now(store, "fovea_patches").at(-1) : null;
  return [size, largest ? [largest, largest] : patch];
}

/** Bind both, and say why they stop elsewhere -> controls, as `bindControls` has them. */
export function bindSizes(store, ui) {
  return ["image_size", "patch_size"].map((name, own) => {
    const node = ui[name];
    const held = inHand(node);
    const read = (raw) => {
      const both = fitting(store, store.state.panes[0].shown.model);
      const allowed = FITTING[name](both);
      const to = held() ? nearest(Number(raw), allowed) : snap(Number(raw), both[own][0], allowed);
      say(ui.why, Number(raw) === to ? "" : MISFIT[name](Number(raw), to, both));
      node.value = to;
      return to;
    };
    const show = (_, shown) => {
      if (!shown) return;
      const { model } = shown;
      const both = sizesOf(store, model);
      const [high, wide] = both[own];
      node.disabled = !model.resizable;
      node.value = high;
      if (own) showStops(ui.stops, node.disabled ? [] : FITTING.patch_size(fitting(store, model)), PATCHES);
      if (node.disabled && !model.reads) say(ui.why, `${model.name} keeps its sizes.`);
      ui.out[name].textContent = `${high === wide || name === "patch_size" ? high : `${high}×${wide}`} px`;
    };
    const control = bind(store, node, name, { show, read, live: true });
    node.addEventListener("change", () => {
      if (!node.disabled) say(ui.why, "");
    });
    return control;
  });
}
