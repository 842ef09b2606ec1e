// What the page holds, and what follows from a change: a new address, a forward where one is needed, a new picture.

import { toAddress } from "./address.js";
import { newest, part } from "./client.js";
import { clsTo, keptOf, largest, ranked, softmax } from "./measures.js";
import { told } from "./words.js";

/** The state is the app's alone: `change` writes it. painters: called with the app whenever something has changed. */
export function createApp(about, state, ask, element) {
  const app = { about, state, ask, element, painters: [], photos: new Map(), ui: {}, best: new Map() };
  Object.assign(app, {
    run: null,
    base: null,
    cell: -1,
    tool: "look",
    rivals: null,
    held: null,
    message: "",
    busy: false,
  });
  app.small = document.createElement("canvas"); // for the map, drawn large
  app.enter = newest(() => compute(app));
  return app;
}

export const cellsOf = (app, patch = app.state.patch) => Math.floor(app.about.form.side / patch) ** 2;
export const sideOf = (app) => Math.floor(app.about.form.side / app.state.patch);

export function draw(app) {
  if (app.drawing) return;
  app.drawing = true;
  requestAnimationFrame(() => {
    app.drawing = false;
    for (const paint of app.painters) paint(app);
  });
}

/** Words about what went wrong, or "" when all is well again. */
export function complain(app, message) {
  app.message = message;
  draw(app);
}

const FORWARD = ["photo", "view", "patch", "layer", "scale", "off", "keep", "removed"];

/** The one place where the state changes. */
export function change(app, fields) {
  const { state } = app;
  const before = FORWARD.map((name) => state[name]);
  const other = ["photo", "patch"].some((name) => name in fields && fields[name] !== state[name]);
  if (other) Object.assign(state, { query: -1, removed: [] });
  Object.assign(state, fields);
  if (other) Object.assign(app, { cell: -1, rivals: null });
  history.replaceState(null, "", toAddress(state, app.about) || location.pathname);
  if (FORWARD.some((name, i) => state[name] !== before[i])) app.enter(true);
  draw(app);
}

/** Photographs are read by the worker and kept under their names -> whether this one is there. */
export async function read(app, name, blob, picture) {
  const reply = await app.ask({ kind: "photo", name, blob, picture, side: app.about.form.side });
  if (reply.kind === "photo") {
    app.photos.set(name, reply);
    return true;
  }
  const { width, height, what, words } = reply;
  const cause = reply.kind === "large" ? "tooLarge" : what === "memory" ? "noMemory" : "noPicture";
  complain(app, told(app, cause, { width, height, name: blob?.name ?? name, words }));
  return false;
}

/** The bytes of a photograph that the page brought. */
export async function sample(app, name) {
  const { text, address } = part(`photo-${app.about.samples.findIndex((one) => one.name === name)}.jpg`);
  if (text === undefined) return (await fetch(address)).blob();
  return new Blob([Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0))], { type: "image/jpeg" });
}

export async function ready(app, name) {
  return app.photos.has(name) || read(app, name, await sample(app, name));
}

/** What a forward is asked for. given: what differs from the state. */
export function wishOf(app, given = {}) {
  const { layers, heads } = app.about.form;
  const { patch, scale, off } = { ...app.state, ...given };
  const on = new Float32Array(layers * heads).fill(1);
  for (const head of off) on[head] = 0;
  const scales = Float32Array.from({ length: layers * heads }, (_, i) => scale[Math.floor(i / heads)]);
  const removed = given.removed ?? new Set();
  const kept = keptOf(cellsOf(app, patch), removed);
  return {
    patch,
    scale: scales,
    on,
    kept,
    moved: given.moved ?? null,
    more: given.more ?? false,
    lens: given.lens ?? -1,
  };
}

/** One forward -> its run, with probabilities; null, and words about it, where it failed. */
export async function asked(app, given = {}, photo = app.state.photo) {
  if (!(await ready(app, photo))) return null;
  const reply = await app.ask({ kind: "run", photo, wish: wishOf(app, given) });
  if (reply.kind !== "ran") {
    complain(app, told(app, reply.what === "memory" ? "noMemory" : "noRun", { words: reply.words }));
    return null;
  }
  return { ...reply.run, ms: reply.ms, shares: softmax(reply.run.logits) };
}

/** The patches that are out: those clicked away, and those that CLS, with all of them in, attends to least. */
function removedOf(base, { removed, keep }) {
  const out = new Set(removed);
  const count = base.tokens - 1;
  const going = Math.min(count - 1, Math.round((1 - keep) * count));
  if (going > 0) for (const cell of ranked(clsTo(base, base.layers - 1)).slice(count - going)) out.add(cell);
  while (out.size >= count) out.delete(out.values().next().value);
  return out;
}

/**
 * The run that the state asks for; beside it the base: the run with every patch and every head in, which tells what was
 * decided before. The state is taken as it is now, whatever becomes of it meanwhile.
 */
async function compute(app) {
  const { photo, view, patch, layer, scale, off, removed, keep } = app.state;
  const lens = view === "lens" ? layer + 1 : -1;
  const key = JSON.stringify([photo, patch, scale]);
  const settings = { patch, scale, more: true, lens };
  const run = async (given) => {
    const found = await asked(app, { ...settings, ...given }, photo);
    return found && { ...found, photo, side: Math.floor(app.about.form.side / patch) };
  };
  Object.assign(app, { busy: true, message: "" });
  draw(app);
  if (app.base?.key !== key || app.stale === photo || (lens >= 0 && app.base.lensOf !== lens)) {
    if (app.stale === photo) app.stale = null;
    const found = await run({ off: [], removed: new Set() });
    if (found) app.base = { ...found, key, lensOf: lens };
  }
  if (app.base?.key === key) {
    const out = removedOf(app.base, { removed, keep });
    app.run = out.size || off.length ? ((await run({ off, removed: out })) ?? app.base) : app.base;
  }
  app.busy = false;
  const { dataset } = document.documentElement;
  dataset.runs = 1 + Number(dataset.runs ?? 0);
  draw(app);
}

/** The class that is told of: what the model says with every patch in. */
export const classOf = (app) => largest(app.base.shares);

/** Put a photograph of the pupil's own in place of the last. */
export async function own(app, blob, picture) {
  complain(app, "");
  if (!(await read(app, "own", blob, picture))) return false;
  app.stale = "own";
  if (app.state.photo !== "own") change(app, { photo: "own" });
  else {
    Object.assign(app.state, picture ? {} : { query: -1, removed: [] });
    app.enter(true);
  }
  return true;
}
