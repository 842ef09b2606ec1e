// The Lab's face. Without dependencies, used unchanged in notebooks (the default export, for anywidget) and in exported
// pages (`mount`). Everything that needs no forward of the model is computed here.

import { bindActing } from "./acting.js";
import { hear } from "./answers.js";
import { build } from "./build.js";
import { bindChips } from "./chips.js";
import { bindControls } from "./controls.js";
import { bindFiles, loadPhoto } from "./files.js";
import { bindFovea } from "./fovea.js";
import { bindHelp } from "./help.js";
import { bindHistory } from "./history.js";
import { bindKeyboard } from "./keyboard.js";
import { bindKnockout } from "./knockout.js";
import { bindFolds, label } from "./label.js";
import { bindLens } from "./lens.js";
import { bindMarking } from "./marking.js";
import { haltPassing } from "./passing.js";
import { paint } from "./picture.js";
import { bindPointing } from "./pointing.js";
import { bindPresent } from "./present.js";
import { bindPrompt } from "./prompt.js";
import { bindRemoval, pause } from "./removal.js";
import { visibleBoxes } from "./settings.js";
import { bindSizes } from "./sizes.js";
import { bindSpending } from "./spending.js";
import { createStore, onFrames } from "./store.js";
import { bindZooming } from "./zooming.js";

/** A view in an element. port, page: as the store has them -> ready, a promise of the first picture; dispose. */
function view(port, root, page = false) {
  root.classList.add("vislab-lab");
  // On what has the focus itself, for that is what JupyterLab's keys select: else X cuts the cell, and arrows leave it.
  root.addEventListener("focusin", ({ target }) => {
    target.dataset.lmSuppressShortcuts = "true";
  });
  const store = createStore(port, page);
  const ui = build(root, page);
  const controls = [...bindControls(store, ui), ...bindSizes(store, ui), ...bindSpending(store, ui)];
  const more = [
    bindFovea,
    bindMarking,
    bindKnockout,
    bindLens,
    bindFolds,
    bindPrompt,
    bindChips,
    bindRemoval,
    bindFiles,
    bindZooming,
    bindPointing,
    bindKeyboard,
    bindHistory,
    bindPresent,
    bindHelp,
    bindActing,
  ];
  for (const bindMore of more) bindMore(store, ui);
  const draw = (all = true) => {
    if (port.get("_source")?.length && ui.panes.clientWidth) paint(store, ui); // nowhere to be seen, nothing to paint
    if (all) label(store, ui, controls);
  };
  const heard = (message, buffers) => hear(store, message, buffers);
  const changed = () => store.change();
  const listeners = {
    "msg:custom": heard,
    comm_live_update: () => store.change({ alone: true }), // said of a living widget, once its kernel is gone
    change: changed,
    "change:_photo": () => loadPhoto(store),
  };
  const endFrames = onFrames(store, draw);
  for (const [event, listener] of Object.entries(listeners)) port.on(event, listener);
  const size = new ResizeObserver(changed);
  for (const node of [root, ui.panes, ui.left]) size.observe(node);
  const ready = loadPhoto(store).then(() => draw());
  port.send({ kind: "hello" });
  expose(ui.canvas, { store, draw, heard, ready, ui });
  return {
    ready,
    dispose() {
      endFrames();
      pause(store);
      haltPassing(store);
      size.disconnect();
      for (const [event, listener] of Object.entries(listeners)) port.off(event, listener);
      store.state.photo?.close();
      store.state.filled?.image.close();
      store.memory.layers.clear();
    },
  };
}

/** For tests and benchmarks: the canvas leads to what the view holds. */
function expose(canvas, { store, ...parts }) {
  canvas.lab = {
    ...parts,
    store,
    port: store.port,
    layers: store.memory.layers,
    visible: () => visibleBoxes(store),
    get panes() {
      return store.state.panes.map((pane) => ({ ...pane, rows: store.memory.rows[pane.index] }));
    },
  };
}

/** What an exported page holds, in place of a kernel. held: {state, messages, layers} as written by vislab. */
export function mount(root, held) {
  return view(heldPort(held), root, true);
}

function heldPort({ state, messages, layers }) {
  const listeners = {};
  const spoken = messages.some(([{ kind }]) => kind === "answer");
  // As it was exported, in an order in which it can be set again: the method last.
  const { attention_scale, layer, head, query, method } = state;
  const tell = (event, ...what) => {
    for (const listener of listeners[event] ?? []) listener(...what);
  };
  return {
    exported: { attention_scale, layer, head, query, method },
    get: (name) => state[name] ?? null,
    set(name, value) {
      state[name] = value;
      // One map is held as it was exported; a layer, a head or a patch of one's own choice is attention, of one layer.
      const pinned = name === "query" && value !== "cls";
      if (name === "layer" || name === "head" || pinned) state.method = spoken ? "attention" : "cls";
      if (pinned && state.layer === "mean") state.layer = -1;
    },
    save_changes: () => tell("change"),
    on: (event, listener) => {
      listeners[event] ??= [];
      listeners[event].push(listener);
    },
    off: (event, listener) => {
      listeners[event] = (listeners[event] ?? []).filter((one) => one !== listener);
    },
    send(message) {
      const held = layers.find(([{ run, layer }]) => run === message.run && layer === message.layer);
      const lacking = [{ ...message, refused: `layer ${message.layer} of this picture is not in this page` }, []];
      const replies = { hello: messages, layer: [held ?? lacking], atlas: [] }[message.kind] ?? [];
      for (const [content, buffers] of replies) tell("msg:custom", { ...content, sums: message.sums }, buffers);
      if (message.kind === "hello") tell("msg:custom", { kind: "status", state: "ready", words: "without Python" }, []);
    },
  };
}

export default {
  render({ model, el }) {
    return view(model, el).dispose;
  },
};
