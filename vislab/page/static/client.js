// The worker, asked by promises; of wishes that come while it is at work, the newest alone is asked.

import { fromBase64 } from "./base64.js";

const piecesOf = (name) => [...document.querySelectorAll(`script[data-part="${name}"]`)];

/** A part of the page: its text in pieces, or, where the page is hosted in parts, its address. */
export function part(name) {
  const texts = piecesOf(name).map((piece) => piece.textContent);
  return texts.length ? { texts } : { address: new URL(name, document.baseURI).href };
}

/** The bytes of a part in pieces, for the worker; its text, which is nearly all of the page, is let go of on the way. */
export async function taken(name) {
  const { address } = part(name);
  if (address) return { address };
  const pieces = [];
  for (const piece of piecesOf(name)) {
    pieces.push(fromBase64(piece.textContent));
    piece.firstChild.data = ""; // an element that is removed keeps its text until memory is scarce
    piece.remove();
    if (pieces.length % 8 === 0) await new Promise((go) => setTimeout(go)); // the page goes on listening
  }
  return { pieces };
}

export function client() {
  const code = part("worker.js");
  const address = code.address ?? URL.createObjectURL(new Blob(code.texts, { type: "text/javascript" }));
  const worker = new Worker(address);
  const waiting = new Map();
  let last = 0;
  worker.onmessage = ({ data }) => {
    waiting.get(data.id)?.(data);
    waiting.delete(data.id);
  };
  worker.onerror = (event) => {
    for (const reply of waiting.values()) reply({ kind: "failed", what: "worker", words: event.message ?? "" });
    waiting.clear();
  };
  const ask = (message, moved = []) =>
    new Promise((reply) => {
      waiting.set(++last, reply);
      worker.postMessage({ ...message, id: last }, moved);
    });
  /**
   * Tell which runs are still shown: the worker lets all others go. Buffers are given back, and filled again: what is
   * thrown away stays in memory until a browser is short of it.
   */
  const keep = (runs, buffers) => worker.postMessage({ kind: "keep", runs, buffers }, buffers);
  return { ask, keep };
}

/** A door that lets one wish through at a time: `ask` is called with the newest, what came between is dropped. */
export function newest(ask) {
  let [running, next] = [null, null];
  const run = async (wish) => {
    await ask(wish);
    if (next === null) return;
    const waiting = next;
    next = null;
    await run(waiting);
  };
  /** -> when nothing is left to ask. */
  return (wish) => {
    if (running) next = wish;
    else
      running = run(wish).finally(() => {
        running = null;
      });
    return running;
  };
}
