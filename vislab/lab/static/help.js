// One sentence for each control and number: a tooltip, and where the picture has the window, its caption.

import { DEFINITIONS } from "./definitions.js";

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
  for (const { title, name } of ui.figures) title.title = name.title = DEFINITIONS.title;
  for (const button of ui.exports) button.title = `Keep what you see as ${button.textContent}.`;
  let pressed = false; // what is dragged over, or clicked, is not pointed at
  const tell = ({ target, buttons }) => {
    if (buttons !== undefined) pressed = buttons > 0; // else it has the focus, of a click or of a key
    if (pressed) return;
    const help = store.state.presenting ? (target.closest("[title]")?.title ?? null) : null;
    if (help !== store.state.help) store.change({ help });
  };
  for (const event of ["pointerover", "focusin"]) ui.root.addEventListener(event, tell);
  const hush = ({ buttons }) => {
    if (buttons !== undefined) pressed = buttons > 0;
    if (store.state.help !== null) store.change({ help: null }); // who acts has read it, and looks at the picture
  };
  for (const event of ["pointerleave", "pointerdown", "pointerup", "input"]) ui.root.addEventListener(event, hush);
}

/** A number with its sentence. */
export const defined = (node, name) => Object.assign(node, { title: DEFINITIONS[name] });
