// What the model is asked, and what is held of its answers.

import { cellsOf, complain, draw, place, ready, settingsOf } from "./app.js";
import { clsTo, goingOf, keptOf, largest, ranked, softmax } from "./measures.js";
import { told } from "./words.js";

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
    look: lookOf(app),
  };
}

/** What the view needs beside CLS's attention: queries and keys of the layer, every token read by the head, rollout. */
const lookOf = ({ state: { layer, view } }) => ({ layer, every: view === "lens", rollout: view === "rollout" });

/** One forward -> its run, with probabilities; null, and words about it, where it failed. given: as of `wishOf`, and picture. */
export async function asked(app, given = {}, photo = app.state.photo) {
  if (!(await ready(app, photo))) return null;
  const { picture } = given;
  const message = { kind: "run", photo, wish: wishOf(app, given), picture, side: app.about.form.side };
  const reply = await app.ask(message, picture ? [picture] : []);
  if (reply.seen) place(app, reply.seen, app.photos.get(photo).version);
  if (reply.kind !== "ran") {
    complain(app, told(app, reply.what === "memory" ? "noMemory" : "noRun", { words: reply.words }));
    return null;
  }
  return { ...reply.run, ...places(reply), ms: reply.ms, shares: softmax(reply.run.logits) };
}

/** What was looked at in a run that the worker holds. */
const places = ({ at }) => (at ? { at, ...(at.rollout && { rollout: at.rollout }) } : {});

/** See that a run has what is wanted of it -> whether it has. */
export async function look(app, run, wish = lookOf(app)) {
  const { at, rollout } = run;
  if (!at) return false; // the worker has let it go
  if (at.layer === wish.layer && (at.every || !wish.every) && (rollout || !wish.rollout)) return true;
  const reply = await app.ask({ kind: "look", run: run.id, wish });
  if (reply.kind !== "looked") {
    complain(app, told(app, reply.what === "memory" ? "noMemory" : "noRun", { words: reply.words }));
    return false;
  }
  Object.assign(run, places(reply));
  keepShown(app, [at.q.buffer, at.k.buffer]);
  return true;
}

/** The patches that are out: those clicked away, and those that CLS, with all of them in, attends to least. */
function removedOf(base, { removed, keep }) {
  const out = new Set(removed);
  const count = base.tokens - 1;
  const going = goingOf(count, keep);
  if (going > 0) for (const cell of ranked(clsTo(base, base.layers - 1)).slice(count - going)) out.add(cell);
  while (out.size >= count) out.delete(out.values().next().value);
  return out;
}

/**
 * The runs of a pane: the base, with every patch and every head in, which tells what was decided before, and the run that
 * its settings ask for. known: runs that are there already. Null where the model did not run.
 */
async function runsOf(app, settings, known) {
  const { photo, patch, scale, off, removed, keep } = settings;
  if (!(await ready(app, photo))) return null;
  const side = Math.floor(app.about.form.side / patch);
  const { version } = app.photos.get(photo);
  let picture = photo === "own" ? app.frame : null;
  if (picture) app.frame = null;
  /** held: with all that can be asked of it, not only what CLS attends to. */
  const run = async (given, held) => {
    const key = JSON.stringify([photo, version, patch, scale, given.off, [...given.removed].sort()]);
    const there = known.find((one) => one.key === key && (one.at || !held));
    const found = there ?? (await asked(app, { patch, scale, more: true, picture, ...given }, photo));
    picture = null; // the worker has it
    return found && Object.assign(found, { photo, side, key });
  };
  const whole = { off: [], removed: new Set() };
  const base = await run(whole, false);
  if (!base) return null;
  const out = removedOf(base, { removed, keep });
  if (out.size || off.length) {
    slim(app, [base]); // the next run takes its place
    const found = await run({ off, removed: out }, true);
    return found && { base, run: found };
  }
  const full = base.at ? base : await run(whole, true);
  return full && { base: full, run: full };
}

const panesOf = (app) => [app, app.beside].filter((one) => one?.run);

function keepShown(app, buffers) {
  const runs = panesOf(app).map(({ run }) => run.id);
  app.keep(runs, buffers);
}

/** Runs that are not shown are left with what CLS attends to: the rest is large. */
function slim(app, runs) {
  const shown = new Set(panesOf(app).map((one) => one.run));
  const going = [...new Set(runs)].filter((run) => run.at && !shown.has(run));
  const buffers = going.flatMap(({ at }) => [at.q.buffer, at.k.buffer]);
  for (const run of going) run.at = null;
  if (going.length) keepShown(app, buffers);
}

/** What the state asks for, as it is now, whatever becomes of it meanwhile. */
export async function compute(app) {
  const { other } = app.state;
  Object.assign(app, { busy: true, message: "" });
  draw(app);
  const runs = () => panesOf(app).flatMap(({ run, base }) => [run, base]);
  const before = runs();
  const found = await runsOf(app, settingsOf(app.state), before);
  if (found) Object.assign(app, found);
  slim(app, before);
  const beside = other && (await runsOf(app, other, [...before, ...runs()]));
  app.beside = beside && { ...beside, settings: other };
  for (const { run } of panesOf(app)) await look(app, run);
  app.busy = false;
  slim(app, [...before, ...runs()]);
  const { dataset } = document.documentElement;
  dataset.runs = 1 + Number(dataset.runs ?? 0);
  draw(app);
}

/** The class that is told of: what the model says with every patch in. */
export const classOf = (app) => largest(app.base.shares);
