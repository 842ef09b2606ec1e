// The diagram in the Lab: it stays lit where the control that was last in hand acts.

import { ACTS, partsOf } from "./acts.js";
import { arrangeDiagram, lightParts, putDiagram, TWO_ROWS_HIGH } from "./diagram.js";
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

/** Put the drawing last in an element; in the root, above what is folded. */
function place(diagram, home, root) {
  if (diagram.parentNode !== home) home.insertBefore(diagram, home === root ? root.lastElementChild : null);
}

/** Under the picture, or under all columns where that one is narrow; presented, where `stage` finds room. */
export function showActing(store, ui) {
  const { about, acting, presenting } = store.state;
  const { diagram, left, root } = ui;
  putDiagram(diagram, about.diagram);
  const asks = about.methods[now(store, "method")]?.asks;
  lightParts(diagram, partsOf(acting, asks), DIAGRAM_WORDS);
  if (presenting) return stageDiagram(ui);
  place(diagram, left.clientWidth < NARROW ? root : left, root);
  diagram.hidden = false;
  arrangeDiagram(diagram);
}

/** Below the sliders where there is room; else with the sentence about what is pointed at, while that is told. */
function stageDiagram({ diagram, root, side, telling }) {
  const others = [...side.children].filter((node) => node !== diagram && node.offsetHeight && node.matches("section"));
  const end = Math.max(...others.map((node) => node.getBoundingClientRect().bottom));
  const room = (root.getBoundingClientRect().bottom - end - 28) / side.clientWidth;
  const fits = TWO_ROWS_HIGH <= room;
  place(diagram, fits ? side : telling, root);
  diagram.hidden = !fits && root.classList.contains("reads"); // where the sentence is as narrow as the sliders
  arrangeDiagram(diagram, fits ? "two" : "one");
}
