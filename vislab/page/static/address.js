// What a view shows, as it stands behind # in the address, so that a link opens it again.

export const MODES = ["free", "guided", "quiz"];
export const VIEWS = ["attention", "rollout", "lens", "photo"];

/** The state a page opens with. */
export function initial(about) {
  const { layers, patch } = about.form;
  return {
    mode: "free",
    language: "en",
    photo: about.samples[0].name,
    view: "attention",
    patch,
    layer: layers - 1,
    head: "mean",
    query: -1, // a patch, or CLS
    scale: new Array(layers).fill(1),
    off: [], // heads that are knocked out, layer · heads + head
    keep: 1,
    removed: [],
    step: 0,
    present: false,
    other: null, // settings of the second pane
  };
}

const whole = (text, low, high) => (/^-?\d+$/.test(text) && +text >= low && +text <= high ? +text : null);
const shareIn = (text, low, high) => (/^[\d.]+$/.test(text) && +text >= low && +text <= high ? +text : null);
const among = (text, names) => (names.includes(text) ? text : null);

function list(text, read) {
  const values = text === "" ? [] : text.split(".").map(read);
  return values.includes(null) ? null : [...new Set(values)];
}

/** How each part of the state is read, null for what it cannot be. */
function readers(about, languages, steps) {
  const { layers, heads, sizes, side } = about.form;
  const cells = (side / Math.min(...Object.keys(sizes))) ** 2;
  return {
    mode: (text) => among(text, MODES),
    language: (text) => among(text, languages),
    photo: (text) =>
      among(
        text,
        about.samples.map((one) => one.name),
      ),
    view: (text) => among(text, VIEWS),
    patch: (text) => (Object.hasOwn(sizes, text) ? +text : null),
    layer: (text) => whole(text, 0, layers - 1),
    head: (text) => (text === "mean" ? text : whole(text, 0, heads - 1)),
    query: (text) => whole(text, -1, cells - 1),
    scale: (text) => {
      const values = text.split("_").map((one) => shareIn(one, 0, 4));
      if (values.includes(null)) return null;
      return values.length === 1 ? new Array(layers).fill(values[0]) : values.length === layers ? values : null;
    },
    off: (text) => list(text, (one) => whole(one, 0, layers * heads - 1)),
    keep: (text) => shareIn(text, 0.05, 1),
    removed: (text) => list(text, (one) => whole(one, 0, cells - 1)),
    step: (text) => whole(text, 0, steps - 1),
    present: (text) => (text === "yes" ? true : null),
    other: (text) => {
      const { photo, patch, scale, off, keep, removed } = fromAddress(text, about, languages, steps);
      return { photo, patch, scale, off, keep, removed };
    },
  };
}

/** The state that an address asks for; what it says wrongly is left as it opens. */
export function fromAddress(hash, about, languages, steps) {
  const state = initial(about);
  const read = readers(about, languages, steps);
  for (const [name, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const value = read[name]?.(text) ?? null;
    if (value !== null) state[name] = value;
  }
  const cells = Math.floor(about.form.side / state.patch) ** 2;
  if (state.query >= cells) state.query = -1;
  state.removed = state.removed.filter((cell) => cell < cells);
  if (state.removed.length === cells) state.removed = [];
  return state;
}

/** The address of a state: what differs from how the page opens. A photograph of one's own has none. */
export function toAddress(state, about) {
  const first = initial(about);
  const written = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (JSON.stringify(value) === JSON.stringify(first[name])) continue;
    if (name === "photo" && !about.samples.some((one) => one.name === value)) continue;
    if (name === "other") written.set(name, toAddress({ ...first, ...value }, about).slice(1));
    else if (name === "scale") written.set(name, new Set(value).size === 1 ? value[0] : value.join("_"));
    else if (Array.isArray(value)) written.set(name, value.join("."));
    else written.set(name, value === true ? "yes" : value);
  }
  const text = written.toString();
  return text ? `#${text}` : "";
}
