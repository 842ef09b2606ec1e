// What the page holds, and what follows from a change: a new address, a forward where one is needed, a new picture.

import { toAddress } from "./address.js";
import { fromBase64 } from "./base64.js";
import { newest, part } from "./client.js";
import { clsTo, keptOf, largest, ranked, slimmed, softmax } from "./measures.js";
import { told } from "./words.js";

/** The state is the app's alone: `change` writes it. painters: called with the app whenever something has changed. */
export function createApp(about, state, { ask, give }, element) {
  const app = { about, state, ask, give, element, painters: [], photos: new Map(), ui: {}, best: new Map() };
  Object.assign(app, {
    run: null,
    base: null,
    cell: -1,
    tool: "look",
    plain: false, // without the edges of patches
    rivals: null,
    beside: null,
    acting: null, // what was last in hand, which the diagram is about
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

const SETTINGS = ["photo", "patch", "scale", "off", "keep", "removed"];
const FORWARD = [...SETTINGS, "view", "layer", "other"];

/** What the model is run with: that of a pane. */
export const settingsOf = (state) => Object.fromEntries(SETTINGS.map((name) => [name, state[name]]));

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
    const version = 1 + (app.photos.get(name)?.version ?? 0);
    app.photos.get(name)?.picture.close();
    app.photos.set(name, { ...reply, version });
    return true;
  }
  const { width, height, what, words } = reply;
  const cause = reply.kind === "large" ? "tooLarge" : what === "memory" ? "noMemory" : "noPicture";
  complain(app, told(app, cause, { width, height, name: blob?.name ?? name, words }));
  return false;
}

/** The bytes of a photograph that the page brought. */
export async function sample(app, name) {
  const { texts, address } = part(`photo-${app.about.samples.findIndex((one) => one.name === name)}.jpg`);
  if (!texts) return (await fetch(address)).blob();
  return new Blob(texts.map(fromBase64), { type: "image/jpeg" });
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
 * The runs of a pane: the base, with every patch and every head in, which tells what was decided before, and the run that
 * its settings ask for. bases: those that are held already. Null where the model did not run.
 */
async function runsOf(app, settings, lens, bases) {
  const { photo, patch, scale, off, removed, keep } = settings;
  if (!(await ready(app, photo))) return null;
  const key = JSON.stringify([photo, app.photos.get(photo).version, patch, scale]);
  const run = async (given) => {
    const found = await asked(app, { patch, scale, more: true, lens, ...given }, photo);
    return found && { ...found, photo, side: Math.floor(app.about.form.side / patch), key, lensOf: lens };
  };
  const same = (one) => one?.key === key && (lens < 0 || one.lensOf === lens);
  const whole = { off: [], removed: new Set() };
  const known = bases.find(same);
  const base = known ?? (await run(whole));
  if (!base) return null;
  const out = removedOf(base, { removed, keep });
  if (out.size || off.length) {
    if (!known) app.give(slimmed(base)); // the next run takes its place
    const found = await run({ off, removed: out });
    return found && { base, run: found };
  }
  const full = base.q ? base : await run(whole);
  return full && { base: full, run: full };
}

/** Runs that are shown no longer give their queries and keys back, and bases keep only what is asked of them. */
function giveBack(app, before) {
  const panes = [app, app.beside].filter((one) => one?.run);
  const shown = new Set(panes.map((one) => one.run));
  const bases = panes.map((one) => one.base);
  const buffers = [...new Set([...before, ...bases])].filter((run) => !shown.has(run)).flatMap(slimmed);
  if (buffers.length) app.give(buffers);
}

/** What the state asks for, as it is now, whatever becomes of it meanwhile. */
async function compute(app) {
  const { view, layer, other } = app.state;
  const lens = view === "lens" ? layer + 1 : -1;
  Object.assign(app, { busy: true, message: "" });
  draw(app);
  const bases = [app.base, app.beside?.base];
  const before = [app.run, app.beside?.run, ...bases].filter(Boolean);
  const found = await runsOf(app, settingsOf(app.state), lens, bases);
  if (found) Object.assign(app, found);
  const beside = other && (await runsOf(app, other, lens, [...bases, app.base]));
  app.beside = beside && { ...beside, settings: other };
  app.busy = false;
  giveBack(app, before);
  const { dataset } = document.documentElement;
  dataset.runs = 1 + Number(dataset.runs ?? 0);
  draw(app);
}

/** The class that is told of: what the model says with every patch in. */
export const classOf = (app) => largest(app.base.shares);

/** Put a photograph of the pupil's own in place of the last; done when the model has seen it, not when it is drawn. */
export async function own(app, blob, picture) {
  complain(app, "");
  if (!(await read(app, "own", blob, picture))) return false;
  if (app.state.photo !== "own") change(app, { photo: "own" });
  else {
    Object.assign(app.state, picture ? {} : { query: -1, removed: [] });
    await app.enter(true);
  }
  return true;
}
