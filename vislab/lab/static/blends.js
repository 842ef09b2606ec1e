// How a heatmap lies on its photograph: as pixels over it, and how those are laid. As figures/blends.py has it.

import { centred } from "./colours.js";

const LEVELS = [0.2, 0.4, 0.6, 0.8]; // of a map's strength, at which lines are drawn
const LINES = 300; // a line is this part of the longer side wide, but no thinner than two pixels
export const BLENDS = {
  value: "by value",
  even: "even",
  multiply: "multiplied",
  contour: "contour lines",
  spotlight: "spotlight",
};

/** How strong values are, 0 to 1: their share of the range; where 0 is in its middle, the way from it. */
export function strengths(values, range) {
  const [low, high] = range;
  const by = high > low ? 1 / (high - low) : 0;
  const both = centred(range);
  return Float32Array.from(values, (v) => {
    const share = Math.min(Math.max((v - low) * by, 0), 1);
    return both ? Math.abs(2 * share - 1) : share;
  });
}

/** Change RGBA pixels, as `coloured` has them, to what lies over the photograph. strong: a pixel each; wide: in a row. */
export function blendPixels(pixels, strong, wide, blend) {
  if (blend === "contour") return drawLines(pixels, strong, wide);
  for (let i = 0; i < strong.length; i++) {
    const o = 4 * i;
    if (blend === "value") pixels[o + 3] *= strong[i];
    if (blend === "spotlight") {
      pixels.fill(0, o, o + 3);
      pixels[o + 3] *= 1 - strong[i];
    }
  }
  return pixels;
}

function drawLines(pixels, strong, wide) {
  const high = strong.length / wide;
  const level = Uint8Array.from(strong, (s) => LEVELS.filter((at) => s >= at).length);
  const edge = new Uint8Array(strong.length);
  for (let i = 0; i < edge.length; i++) {
    const left = i % wide ? level[i - 1] : level[i];
    const above = i >= wide ? level[i - wide] : level[i];
    edge[i] = level[i] !== left || level[i] !== above ? 1 : 0;
  }
  const longest = Math.max(wide, high);
  const line = grown(edge, wide, Math.max(2, Math.round(longest / LINES)));
  const cased = grown(line, wide, 2 * Math.max(1, Math.round(longest / LINES / 2)) + 1);
  for (let i = 0; i < line.length; i++) {
    const o = 4 * i;
    if (!line[i]) pixels.fill(0, o, o + 3);
    pixels[o + 3] *= line[i] ? 1 : cased[i] ? 140 / 255 : 0;
  }
  return pixels;
}

/** What is 1 grown to squares of a side, across and then down. */
function grown(mask, wide, side) {
  const from = -Math.floor(side / 2);
  const high = mask.length / wide;
  const across = new Uint8Array(mask.length);
  const out = new Uint8Array(mask.length);
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i]) continue;
    const col = i % wide;
    for (let d = from; d < from + side; d++) if (col - d >= 0 && col - d < wide) across[i - d] = 1;
  }
  for (let i = 0; i < mask.length; i++) {
    if (!across[i]) continue;
    const row = Math.floor(i / wide);
    for (let d = from; d < from + side; d++) if (row - d >= 0 && row - d < high) out[i - d * wide] = 1;
  }
  return out;
}

/** How such pixels are laid on a canvas -> [how opaque, how composed]. */
export const layingOf = (blend, opacity) => [
  blend === "contour" ? Math.min(1, opacity / 0.6) : opacity,
  blend === "multiply" ? "multiply" : "source-over",
];
