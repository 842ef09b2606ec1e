// One sentence for each control and number: a tooltip, and where the picture has the window, its caption.

import { DEFINITIONS } from "./definitions.js";

const READ_IN = 6000; // ms that a sentence stays below a pointer at rest

/** Write the sentences where they belong; while the picture has the window, what is pointed at is told. */
export function bindHelp(store, ui) {
  const nodes = {
    ...ui,
    ...ui.films,
    chart: ui.chart.parentNode.parentNode,
    export: ui.export.firstChild,
    ...Object.fromEntries(["display", "atlas", "lens", "every", "compare"].map((name) => [name, ui[name].firstChild])),
  };
  for (const [name, sentence] of Object.entries(DEFINITIONS)) {
    const node = nodes[name];
    if (node) (node.closest("label") ?? node).title = sentence;
  }
  for (const { name } of ui.figures) name.title = DEFINITIONS.title;
  for (const button of ui.exports) button.title = `Keep what you see as ${button.textContent}.`;
  let pressed = false; // what is dragged over, or clicked, is not pointed at
  let rest = ""; // where the pointer was last: what moves below it is not pointed at
  let clock = 0;
  const told = (help) => {
    clearTimeout(clock);
    if (help) clock = setTimeout(told, READ_IN, null);
    if (help !== store.state.help) store.change({ help });
  };
  const moves = ({ buttons, screenX, screenY }) => {
    if (buttons === undefined) return true; // the focus does, of a click or of a key
    pressed = buttons > 0;
    const before = rest;
    rest = `${screenX},${screenY}`;
    return rest !== before;
  };
  const tell = (event) => {
    if (!moves(event) || pressed || !store.state.presenting) return;
    const node = event.target.closest("[title]");
    told(node && !ui.left.contains(node) ? node.title : null); // what is said of the picture would cover it
  };
  for (const event of ["pointerover", "focusin"]) ui.root.addEventListener(event, tell);
  const hush = (event) => {
    moves(event);
    told(null); // who acts has read it, and looks at the picture
  };
  for (const event of ["pointerleave", "pointerdown", "pointerup", "input"]) ui.root.addEventListener(event, hush);
}

/** A number with its sentence. */
export const defined = (node, name) => Object.assign(node, { title: DEFINITIONS[name] });
