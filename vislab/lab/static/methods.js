// All methods beside each other: every method's map of the shown run, as far as they have come.

import { methodNames } from "./choices.js";
import { endsOf } from "./colours.js";
import { make } from "./elements.js";
import { lay, photographOn } from "./picture.js";
import { commit, methodName, now } from "./settings.js";

/** Show them, anew only where something about them is. */
export function showMethods(store, ui, shown) {
  const { maps, photo } = store.state;
  const asked = JSON.stringify([shown.settings.query, shown.settings.target]);
  const of = (name) =>
    maps[name]?.run === shown.run && JSON.stringify(maps[name].asked) === asked ? maps[name] : null;
  const names = [...methodNames(store), "random"].filter((name) => !store.page || of(name));
  const current = names.map(of);
  const look = ["blend", "colormap", "normalise", "opacity", "smooth", "threshold", "method"].map((name) =>
    now(store, name),
  );
  const key = JSON.stringify([shown.content, look, current.map((one) => one && [one.run, one.target, one.number])]);
  if (ui.gallery.dataset.key === key || !photo) return;
  ui.gallery.dataset.key = key;
  // While the methods are the same the buttons stay, and with them the focus.
  if (ui.gallery.dataset.names !== String(names)) {
    ui.gallery.dataset.names = names;
    ui.gallery.replaceChildren(...names.map((name) => methodButton(store, name)));
  }
  const ends = endsBetween(store, current);
  names.forEach((name, i) => {
    showMethod(store, ui.gallery.children[i], name, current[i], shown, ends);
  });
}

function methodButton(store, name) {
  const onclick = () => commit(store, { method: name });
  return make("button", { type: "button", disabled: store.page || name === "random", onclick });
}

/** A function from a map to the values at the ends of its colours. */
function endsBetween(store, current) {
  const normalise = now(store, "normalise");
  const real = current.filter((one) => one?.values && one.method !== "random");
  const signed = real.some((one) => one.signed);
  const lists = real.map((one) => one.values);
  const shared = normalise === "shared" && real.length > 0 ? endsOf(lists, signed) : null;
  return (one) => {
    if (one.method === "random") return [0, 1];
    return shared ?? (normalise === "absolute" ? [-one.signed, 1] : endsOf([one.values], one.signed));
  };
}

/** one: its map, with what it is worth once that is known, or why there is none; null before it has come. */
function showMethod(store, button, name, one, shown, ends) {
  const words =
    one?.refused ?? `${methodName(store, name)}${one?.target ? ` for ${one.target}` : ""}${one ? "" : " …"}`;
  const worth = (one?.worth ?? []).map((area, k) => `${["deletion", "insertion"][k]} ${area.toFixed(2)}`);
  const { canvas, context } = photographOn(store, 320);
  if (one?.values) lay(store, context, shown, one.values, ends(one), make("canvas"));
  const areas = worth.map((area) => make("span", { className: "quiet", textContent: area }));
  button.replaceChildren(canvas, make("span", { textContent: words }), ...areas);
  button.setAttribute("aria-pressed", String(now(store, "method") === name));
  button.setAttribute("aria-label", [words, ...worth].join(", "));
}
