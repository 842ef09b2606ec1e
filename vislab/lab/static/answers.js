// What comes from Python, kind by kind: a message and its buffers as the parts of the state that are new.

import { download } from "./files.js";
import { keepLooks } from "./looks.js";
import { typed } from "./numbers.js";
import { keepLayer, operands } from "./operands.js";
import { placeOf } from "./places.js";
import { pause, rollWaiting, takeAgain } from "./removal.js";
import { layerIndex, now } from "./settings.js";
import { amount } from "./words.js";

/** Take in a message. */
export function hear(store, message, buffers) {
  store.change(ANSWERS[message.kind]?.(store, message, buffers ?? []));
}

const ANSWERS = {
  about({ port, page, state }, message, [tables]) {
    if (state.unfolded.every && !page) port.send({ kind: "methods", open: true }); // a view that opened since began folded
    return { about: { ...message, tables: typed(tables, Uint8Array) } };
  },
  status: ({ state }, message) => ({ status: message, exporting: state.exporting && message.state !== "error" }),
  view(store, message, [values, owners]) {
    const { pane, run, content } = message;
    const withPane = (parts) => ({
      panes: store.state.panes.map((one) => (one.index === pane ? { ...one, ...parts } : one)),
    });
    if (run === null) return withPane({ shown: null });
    if (content !== store.port.get("_content")) return {}; // of the photograph before this one
    const shown = { ...message, ...placeOf(message), owners: owners && typed(owners, Uint16Array) };
    if (!pane && !shown.model.reads) operands(store, shown, layerIndex(shown, now(store, "layer")), false); // ready before the pointer comes
    const before = store.state.panes[0].shown;
    store.change({
      ...withPane({ shown, values: typed(values, Float32Array) }),
      ...(pane ? {} : wordsOf(store, shown)),
    });
    if (!pane) takeAgain(store, before);
    return {};
  },
  asks: ({ state }, asks) => ({ asks, takes: "question", tool: toolOf(state, ["mask"]) }),
  saying: (_, message) => ({ saying: message.words ? message : null }),
  answer: (_, message) => ({ answer: { ...message, views: message.views.map(placeOf) }, pointed: null }),
  looks(store, message, buffers) {
    keepLooks(store, message, buffers);
    return {};
  },
  plain: (_, plain) => ({ plain }),
  method({ state }, message, [values]) {
    const map = { ...message, number: state.mapCount, values: values && typed(values, Float32Array) };
    return { maps: { ...state.maps, [message.method]: map }, mapCount: state.mapCount + 1 };
  },
  removal(store, message, [gone, image]) {
    const key = JSON.stringify(message);
    const before = store.state.removal;
    if (key === before?.key) return {}; // told again
    pause(store);
    if (image) fillGone(store, message.run, image);
    store.change({ removal: { ...message, key, gone: gone && typed(gone, Uint16Array) }, step: 0 });
    rollWaiting(store);
    return {};
  },
  without(store, message, [image]) {
    if (image) fillGone(store, message.run, image);
    return { without: message };
  },
  closer(_, message, buffers) {
    if (!message.crops) return { closer: null };
    const crops = message.crops.map((crop, i) => ({
      ...placeOf(crop),
      signed: crop.signed,
      values: typed(buffers[i], Float32Array),
    }));
    const values = crops.length ? crops.flatMap((crop) => [...crop.values]) : [0];
    return { closer: { ...message, crops, values, signed: crops.some((crop) => crop.signed) } };
  },
  boxes: (_, boxes) => ({ boxes }),
  masks: masksTold,
  note: (_, { words }) => ({ note: { words } }),
  layer(store, message, buffers) {
    keepLayer(store, message, buffers);
    return {};
  },
  lens(_, message, [classes, shares]) {
    if (message.refused) return { lens: message };
    return { lens: { ...message, maps: typed(classes, Uint8Array), shares: typed(shares, Uint8Array) } };
  },
  atlas: (_, message, [maps]) => ({ atlas: { ...message, maps: maps && typed(maps, Float32Array) } }),
  file({ state }, { name }, [bytes]) {
    if (!state.exporting) return {}; // another view of this lab asked for it
    download(name, bytes);
    return { exporting: false, status: { state: "ready", words: `${name}, ${amount(bytes.byteLength, "B")}` } };
  },
};

/** Masks, or that there are none; with a segmenter that takes points, pointing begins. */
function masksTold({ page, state }, message, buffers) {
  if (message.segmenter === null) return { masks: null, tool: state.tool === "mask" ? "point" : state.tool };
  const masks = { ...message, runs: buffers.map((one) => typed(one, Uint32Array)) };
  const begins = message.takes && !page && state.masks?.segmenter !== message.segmenter && state.tool === "point";
  const ends = !message.takes && state.tool === "mask";
  return { masks, tool: begins ? "mask" : ends ? "point" : state.tool };
}

/** What another picture changes for words. */
function wordsOf({ state }, { model, classes }) {
  const tools = model.reads ? ["mask"] : classes.length ? ["mask", "fovea", "take"] : ["mask", "fovea"];
  return { takes: model.takes ?? null, tool: toolOf(state, tools) };
}

/** The tool in hand, where it is one of those that a model has a use for. */
const toolOf = ({ tool }, tools) => (tools.includes(tool) ? tool : "point");

/** What the model sees where patches are gone, made once a run. */
async function fillGone(store, run, bytes) {
  if (store.state.filled?.run === run) return;
  const image = await createImageBitmap(new Blob([bytes]));
  store.state.filled?.image.close();
  store.change({ filled: { run, image } });
}
