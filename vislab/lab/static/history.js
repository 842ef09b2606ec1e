// What was set before: undo and redo.

import { commit, now } from "./settings.js";

/** Go one change back, or with `forth` the one that was undone forward again. */
export function undo(store, forth = false) {
  const { past, future } = store.state;
  const [from, to] = forth ? [future, past] : [past, future];
  if (!from.length) return;
  const { settings, names } = from.at(-1);
  const here = Object.fromEntries(Object.keys(settings).map((name) => [name, now(store, name)]));
  const back = Object.entries(settings).filter(([name, value]) => JSON.stringify(here[name]) !== JSON.stringify(value));
  commit(store, Object.fromEntries(back), { remember: false });
  const lists = [from.slice(0, -1), [...to, { settings: here, names, at: 0 }]];
  const [newPast, newFuture] = forth ? lists.toReversed() : lists;
  store.change({ past: newPast, future: newFuture });
}

/** The buttons, and Ctrl+Z (with Shift, or Ctrl+Y: redo) wherever in the view the focus is. */
export function bindHistory(store, ui) {
  ui.undo.addEventListener("click", () => undo(store));
  ui.redo.addEventListener("click", () => undo(store, true));
  ui.root.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || event.altKey || (key !== "z" && key !== "y")) return;
    if (event.target.matches("input[type=text], textarea")) return; // has an undo of its own
    event.preventDefault();
    event.stopPropagation(); // else the notebook undoes a change of its cells
    undo(store, key === "y" || event.shiftKey);
  });
}
