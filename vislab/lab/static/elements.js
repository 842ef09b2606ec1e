// Elements: made, filled, and written only where they differ.

/** An element. attributes: properties where it has them, else attributes; on…: listeners. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list" && name !== "role") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** An empty drawing whose units are those of its width and height. */
export function makeDrawing(width, height) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  return svg;
}

/** Words that are read aloud when they are written: only where they differ. */
export function say(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

/** A select's options, written anew only where they changed. */
export function fill(node, values, words, value) {
  const key = JSON.stringify(values);
  if (node.dataset.key !== key) {
    node.dataset.key = key;
    node.replaceChildren(...values.map((v) => make("option", { value: v, textContent: words(v) })));
  }
  node.value = value;
}

/** Where the marks below a slider go, in its label. */
export function makeStops(label) {
  const stops = make("span", { className: "stops", ariaHidden: "true" });
  label.append(stops);
  return stops;
}

/** A mark below a slider at each value that it stops at. ends: its least and most. */
export function showStops(node, values, [least, most]) {
  if (node.dataset.key === String(values)) return;
  node.dataset.key = values;
  const mark = (value) => make("i", { style: `--at: ${(value - least) / (most - least)}` });
  node.replaceChildren(...values.map(mark));
}

/** Whether a slider is in the hand of a pointer, and not of keys, which reach what lies next -> a function that tells. */
export function inHand(slider) {
  let held = false;
  for (const event of ["pointerdown", "keydown"])
    slider.addEventListener(event, ({ type }) => {
      held = type === "pointerdown";
    });
  return () => held;
}
