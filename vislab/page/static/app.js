// What the page holds, and what follows from a change: a new address, a question to the model where one is needed
// (`app.enter`), a new picture.

import { toAddress } from "./address.js";
import { fromBase64 } from "./base64.js";
import { part } from "./client.js";
import { told } from "./words.js";

/** The state is the app's alone: `change` writes it. painters: called with the app whenever something has changed. */
export function createApp(about, state, { ask, keep }, element) {
  const app = { about, state, ask, keep, element, painters: [], photos: new Map(), ui: {}, best: new Map() };
  Object.assign(app, {
    run: null,
    base: null,
    cell: -1,
    tool: "look",
    plain: false, // without the edges of patches
    rivals: null,
    frame: null, // of the camera, which nobody has seen yet
    beside: null,
    acting: null, // what was last in hand, which the diagram is about
    back: 0, // how many patches that were taken away another patch size has brought back
    message: "",
    busy: false,
  });
  app.small = document.createElement("canvas"); // for the map, drawn large
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
  const cut = "patch" in fields && !("removed" in fields || "photo" in fields); // anew, and nobody asked for its gaps
  app.back = cut ? app.back + (other ? state.removed.length : 0) : 0;
  if (other) Object.assign(state, { query: -1, removed: [] });
  Object.assign(state, fields);
  if (other) Object.assign(app, { cell: -1, rivals: null });
  history.replaceState(null, "", toAddress(state, app.about) || location.pathname);
  if (FORWARD.some((name, i) => state[name] !== before[i])) app.enter(true);
  draw(app);
}

const versionAfter = (app, name) => 1 + (app.photos.get(name)?.version ?? 0);

/** A photograph as the page draws it, in place of what had its name. */
export function place(app, reply, version) {
  app.photos.get(reply.name)?.picture?.close();
  app.photos.set(reply.name, { ...reply, version });
}

/** Photographs are read by the worker and kept under their names -> whether this one is there. */
export async function read(app, name, blob) {
  const reply = await app.ask({ kind: "photo", name, blob, side: app.about.form.side });
  if (reply.kind === "photo") {
    place(app, reply, versionAfter(app, name));
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

function letFrameGo(app) {
  app.frame?.close();
  app.frame = null;
}

/** Put a photograph of the pupil's own in place of the last. */
export async function own(app, blob) {
  complain(app, "");
  letFrameGo(app);
  if (!(await read(app, "own", blob))) return;
  if (app.state.photo !== "own") change(app, { photo: "own" });
  else {
    Object.assign(app.state, { query: -1, removed: [] });
    app.back = 0;
    await app.enter(true);
  }
}

/** A picture of the camera, which the worker gets together with the question -> when the model has seen it. */
export function frame(app, picture) {
  letFrameGo(app);
  app.frame = picture;
  app.photos.set("own", { ...app.photos.get("own"), version: versionAfter(app, "own") });
  if (app.state.photo !== "own") change(app, { photo: "own" });
  return app.enter(true);
}
