// Image tokens of a language model, drawn as they are: the grid of each view, and the edges of the tiles.

import { gridLines, outline } from "./ink.js";
import { seenBy } from "./places.js";

/** views: [{grid, frame}, …]; the context draws in source pixels. Lines are those of the finest views. */
export function drawTiles(context, views, unit) {
  const side = ({ grid, frame }) => grid.patch[0] / frame.scale[0];
  const finest = Math.min(...views.map(side));
  const fine = views.filter((view) => side(view) < finest * 1.01);
  for (const { grid, frame } of fine) gridLines(context, frame, grid, unit);
  if (views.length < 2) return;
  for (const { frame } of fine) {
    const [x, y, wide, high] = seenBy(frame);
    outline(context, [x, y, x + wide, y + high], unit, false);
  }
}
