// The diagram in the Lab: it stays lit where the control that was last in hand acts.

import { ACTS, partsOf } from "./acts.js";
import { arrangeDiagram, HEIGHTS, lightParts, putDiagram } from "./diagram.js";
import { now } from "./settings.js";

/** Note which control is in hand: pointed at, or with the focus. While a slider is dragged, nothing else is. */
export function bindActing(store, ui) {
  const more = { chart: ui.chart.parentNode.parentNode, atlas: ui.atlas };
  const nodes = { ...ui, ...ui.films, ...more };
  const names = new Map();
  for (const name of ["method", ...Object.keys(ACTS)]) names.set(nodes[name].closest("label") ?? nodes[name], name);
  const act = ({ target, buttons }) => {
    if (buttons) return;
    let node = target;
    while (node && node !== ui.root && !names.has(node)) node = node.parentNode;
    const acting = names.get(node);
    if (acting && acting !== store.state.acting) store.change({ acting });
  };
  for (const event of ["pointerover", "focusin"]) ui.root.addEventListener(event, act);
}

const DIAGRAM_WORDS = "The model, from pixels to class";
const NARROW = 340; // px, below which its letters would be too small under the picture

/** Under the picture, or under all columns where that one is narrow; presented, below the sliders. */
function place({ diagram, side, left, root }, presenting) {
  const home = presenting ? side : left.clientWidth < NARROW ? root : left;
  if (diagram.parentNode !== home) home.insertBefore(diagram, home === root ? root.lastElementChild : null);
}

export function showActing(store, ui) {
  const { about, acting, presenting } = store.state;
  const { diagram, side } = ui;
  putDiagram(diagram, about.diagram);
  place(ui, presenting);
  const asks = about.methods[now(store, "method")]?.asks;
  lightParts(diagram, partsOf(acting, asks), DIAGRAM_WORDS);
  if (!presenting) {
    diagram.hidden = false;
    arrangeDiagram(diagram);
    return;
  }
  const others = [...side.children].filter((node) => node !== diagram && node.offsetHeight && node.matches("section"));
  const end = Math.max(...others.map((node) => node.getBoundingClientRect().bottom));
  const room = (ui.root.getBoundingClientRect().bottom - end - 28) / side.clientWidth;
  const rows = ["two", "one"].find((one) => HEIGHTS[one] <= room);
  diagram.hidden = !rows;
  if (rows) arrangeDiagram(diagram, rows);
}
