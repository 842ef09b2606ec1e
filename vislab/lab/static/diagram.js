// The diagram of a ViT, one drawing for the Lab and the class page, whose parts light up.

const ONE_ROW = 560; // px, from which on its two rows stand beside each other
const ARRANGEMENTS = { one: ["-8 0 736 62", "translate(360 0)"], two: ["-8 0 376 126", "translate(0 64)"] };
export const TWO_ROWS_HIGH = 126 / 376; // of a width of 1

/** Put the drawing, the text of an SVG file without its style, which is the page's, into an element that has none. */
export function putDiagram(node, text) {
  if (node.firstChild || !text) return;
  const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  svg.querySelector("title").remove(); // it would be shown wherever the pointer rests
  for (const part of svg.querySelectorAll("[id]")) {
    part.dataset.part = part.id; // a page may hold several
    part.removeAttribute("id");
  }
  node.append(document.adoptNode(svg));
}

/** Light these parts and no other. words: what the drawing is, for those who hear it; named: part -> its name. */
export function lightParts(node, parts, words, named) {
  const lit = [];
  for (const part of node.querySelectorAll("[data-part]")) {
    const name = named?.(part.dataset.part);
    const label = part.querySelector("text");
    if (name && label.textContent !== name) label.textContent = name;
    const shines = parts.includes(part.dataset.part);
    part.classList.toggle("lit", shines);
    if (shines) lit.push(label.textContent);
  }
  const said = lit.length ? `${words}: ${lit.join(", ")}` : words;
  if (node.firstChild?.getAttribute("aria-label") !== said) node.firstChild?.setAttribute("aria-label", said);
}

/** One row where there is room for it, else two. rows: which, where that is known. */
export function arrangeDiagram(node, rows = node.clientWidth < ONE_ROW ? "two" : "one") {
  const svg = node.firstChild;
  const [box, place] = ARRANGEMENTS[rows];
  if (!svg || svg.getAttribute("viewBox") === box) return;
  svg.setAttribute("viewBox", box);
  svg.querySelector(".second").setAttribute("transform", place);
}
