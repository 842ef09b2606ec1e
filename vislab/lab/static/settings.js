// The settings as the controls say them now, and what follows from them for the pictures.

export const SPENT = ["keep", "keep_by", "keep_at", "gather", "merge", "fovea", "fovea_patches", "heads_off"];
export const FORWARD = ["model", "patch_size", "image_size", "attention_scale", ...SPENT];
export const SHOWN_IT = ["points", "outside", "boxes"]; // what a segmenter is shown
export const READ = ["method", "layer", "head", "query", "target"];
export const ATTENTION = ["cls", "attention"]; // methods whose rows the page can make itself
const AT_ONCE = 700; // ms: steps of a slider or of a pin that follow each other as closely are one change
const SHARES = ["opacity", "threshold", "confidence"];
const SIZED = ["patch_size", "image_size", "attention_scale", "keep", "merge", "fovea"];
const STEPPED = ["word", ...SIZED, "layer", "query", ...SHARES];
const TRAINED = { attention_scale: 1, heads_off: null }; // the model as it was trained
const MOST = 100; // changes that can be undone
const ANSWERED = [
  "image",
  ...FORWARD,
  ...READ,
  "prompt",
  "word",
  "compare",
  "before",
  "detector",
  "two_stage",
  ...SHOWN_IT,
]; // settings that Python answers

const DISPLAY = [
  "opacity",
  "blend",
  "colormap",
  "smooth",
  "normalise",
  "threshold",
  "grid",
  "incoming",
  "confidence",
  "masked",
];
const CHANGING = [...ANSWERED, ...DISPLAY]; // all that can be set

/** What a control says, dragged or not. */
export const now = ({ state, port }, name) => (name in state.drag ? state.drag[name] : port.get(name));

/** Set settings, here and in Python. note: what is said of it; remember: whether it can be undone. */
export function commit(store, changes, { note = null, remember = true } = {}) {
  const { port, page } = store;
  const history = remember ? remembered(store, changes) : {};
  const drag = { ...store.state.drag };
  let { status } = store.state;
  for (const [name, value] of Object.entries(changes)) {
    delete drag[name];
    const changed = JSON.stringify(port.get(name)) !== JSON.stringify(value);
    const answered = ANSWERED.includes(name) || (name === "confidence" && now(store, "two_stage"));
    if (changed && answered && !page) status = { state: "computing", words: "" };
    port.set(name, value);
  }
  store.change({ drag, status, note, asked: Object.keys(changes)[0], ...history });
  port.save_changes();
}

/** The history with the settings as they are before a change; what has no name (your own photograph) is left out. */
export function remembered({ port, state }, changes) {
  const names = String(Object.keys(changes));
  const settings = Object.fromEntries(CHANGING.map((name) => [name, port.get(name)]).filter(([, v]) => v !== ""));
  if (Object.entries(changes).every(([name, value]) => JSON.stringify(port.get(name)) === JSON.stringify(value)))
    return {};
  const last = state.past.at(-1);
  if (STEPPED.includes(names) && last?.names === names && Date.now() - last.at < AT_ONCE) {
    return { past: [...state.past.slice(0, -1), { ...last, at: Date.now() }], future: [] };
  }
  return { past: [...state.past, { settings, names, at: Date.now() }].slice(-MOST), future: [] };
}

/** The settings in which the second picture differs; null where there is none. */
export function second(store) {
  const chosen = now(store, "compare");
  if (Object.keys(chosen).length) return chosen;
  const changed = Object.entries(TRAINED).filter(([name, value]) => (now(store, name) ?? null) !== value);
  return now(store, "before") && changed.length ? Object.fromEntries(changed) : null;
}

/** Whether there are two pictures. */
export const isTwo = (store) => second(store) !== null && store.state.panes[1].shown !== null;

/** What a pane is to show. */
export function settingsOf(store, { index }) {
  const own = Object.fromEntries([...FORWARD, ...READ].map((name) => [name, now(store, name)]));
  return index ? { ...own, ...second(store) } : own;
}

export const same = (a, b, names) => names.every((name) => JSON.stringify(a[name]) === JSON.stringify(b[name]));

/** Whether a message from Python is about what a pane shows. */
export const isOf = (message, { shown }) =>
  message?.run === shown.run && same(message.settings, shown.settings, [...FORWARD, ...READ]);

export const layerIndex = ({ model }, layer) =>
  layer === "mean" ? model.layers - 1 : (layer + model.layers) % model.layers;

/** Whether a part of the question makes a difference to the method. */
export const takes = (store, part, method = now(store, "method")) =>
  store.state.about?.methods[method]?.asks.includes(part);

/** Which of layer and head may not be one of the user's choice under the method: attention has both. */
export function withoutChoice(store) {
  const method = store.state.about?.methods[now(store, "method")];
  if (!method || store.page) return [];
  return [...(method.asks.includes("layer") ? [] : ["layer"]), ...(method.single_head ? [] : ["head"])];
}

/** What a method is called; one that is in no list is that against which they are held. */
export const methodName = ({ state }, method) => state.about?.methods[method]?.label ?? "a random order";

export const pinnedPoint = (store) => (now(store, "query") === "cls" ? null : now(store, "query"));

/** Sizes of input and patch -> [[height, width], [height, width]], px. settings: by default what the controls say. */
export function sizesOf(store, model, settings = null) {
  const of = (name) => (settings ? settings[name] : now(store, name));
  const size = of("image_size") ?? model.size;
  const patch = of("patch_size");
  return [Array.isArray(size) ? size : [size, size], patch ? [patch, patch] : model.patch];
}

/** The detector's boxes above the confidence; of another photograph, none. */
export function visibleBoxes(store) {
  const { boxes } = store.state;
  const known = boxes?.boxes && boxes.content === store.port.get("_content") && now(store, "detector") !== null;
  return known ? boxes.boxes.filter(({ score }) => score > now(store, "confidence")) : [];
}

/** What Python told of the masks of this photograph; null of another, and without a segmenter. */
export function masksNow({ port, state: { masks } }) {
  return masks?.content === port.get("_content") ? masks : null;
}

export const isAnyMark = (store) => SHOWN_IT.some((name) => now(store, name)?.length);

/** What stands in the status line: without a kernel, nothing but that. */
export const statusOf = ({ state }) =>
  state.alone ? { state: "error", words: "no kernel: run the cell again" } : state.status;
