// Heads switched off in the atlas: one, or all of a layer, and back on.

import { make, say } from "./elements.js";
import { commit, now } from "./settings.js";
import { whyUnspent } from "./spending.js";

/** Which heads of a layer are off. */
const offIn = (store, layer) => now(store, "heads_off")?.[layer] ?? [];

/** Switch heads of a layer on where all of them are off, else off. */
function switchHeads(store, layer, heads) {
  const off = offIn(store, layer);
  const all = heads.every((head) => off.includes(head));
  const left = all ? off.filter((head) => !heads.includes(head)) : [...new Set([...off, ...heads])];
  const { [layer]: _, ...others } = now(store, "heads_off") ?? {};
  const next = left.length ? { ...others, [layer]: left.toSorted((a, b) => a - b) } : others;
  commit(store, { heads_off: Object.keys(next).length ? next : null });
}

export function bindKnockout(store, ui) {
  ui.allOn.addEventListener("click", () => commit(store, { heads_off: null }));
}

/** A button that switches one head, under its map. */
export function headSwitch(store, layer, head) {
  const button = make("button", { type: "button", className: "switch" });
  button.dataset.head = head;
  button.dataset.layer = layer;
  button.addEventListener("click", () => switchHeads(store, layer, [head]));
  return button;
}

/** The head of a column: it switches the whole layer. */
export function layerSwitch(store, layer, heads) {
  const button = make("button", { type: "button", className: "switch column" });
  button.dataset.layer = layer;
  button.addEventListener("click", () => switchHeads(store, layer, [...Array(heads).keys()]));
  return button;
}

/** Which are on and off, and what that does to the class. */
export function showKnockout(store, ui, shown) {
  const not = whyUnspent(store, "heads_off");
  const { heads } = shown.model;
  for (const button of ui.maps.querySelectorAll(".switch")) {
    const { layer, head } = button.dataset;
    const off = offIn(store, layer);
    const whole = head === undefined;
    const isOff = whole ? off.length === heads : off.includes(Number(head));
    button.textContent = whole ? `layer ${layer} ${isOff ? "off" : "on"}` : isOff ? "off" : "on";
    button.disabled = Boolean(not);
    button.title = not || `Switch ${whole ? "all heads of this layer" : "this head"} ${isOff ? "on again" : "off"}.`;
    button.setAttribute("aria-pressed", String(isOff));
    button.setAttribute("aria-label", `Layer ${layer}${whole ? "" : `, head ${head}`}: ${isOff ? "off" : "on"}`);
    if (!whole) button.parentNode.classList.toggle("off", isOff);
  }
  const off = Object.values(now(store, "heads_off") ?? {}).flat().length;
  ui.allOn.disabled = !off || Boolean(not);
  say(ui.knocked, not || (off ? `${off} ${off === 1 ? "head" : "heads"} off${becomes(store, shown)}` : HINT));
}

const HINT = "Press “on” below a head, or above a column, to switch it off.";

/** The class of the model as it was trained, and what becomes of it. */
function becomes({ state: { plain } }, { run, classes, settings }) {
  if (plain?.run !== run || !settings.heads_off || !classes.length) return "";
  const [name, before] = Object.entries(plain.classes).reduce((a, b) => (b[1] > a[1] ? b : a));
  const now_ = classes.find(([one]) => one === name)?.[1];
  const percent = (p) =>
    p === undefined ? `below ${percent(classes.at(-1)[1])}` : `${(100 * p).toFixed(p < 0.095 ? 1 : 0)} %`;
  const other = classes[0][0] === name ? "" : `; now ${classes[0][0].split(",")[0]} ${percent(classes[0][1])}`;
  return `: ${name.split(",")[0]} ${percent(before)} → ${percent(now_)}${other}`;
}
