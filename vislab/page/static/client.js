// The worker, asked by promises; of wishes that come while it is at work, the newest alone is asked.

/** A part of the page: its text, or, where the page is hosted in parts, its address. */
export function part(name) {
  const element = document.querySelector(`script[data-part="${name}"]`);
  return element ? { text: element.textContent } : { address: new URL(name, document.baseURI).href };
}

/** Let go of a part's text, which is no longer needed: that of the weights is nearly all of the page. */
export function dropPart(name) {
  document.querySelector(`script[data-part="${name}"]`)?.remove();
}

export function client() {
  const code = part("worker.js");
  const address = code.address ?? URL.createObjectURL(new Blob([code.text], { type: "text/javascript" }));
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
  const ask = (message) =>
    new Promise((reply) => {
      waiting.set(++last, reply);
      worker.postMessage({ ...message, id: last });
    });
  return { ask };
}

/** A door that lets one wish through at a time: `ask` is called with the newest, what came between is dropped. */
export function newest(ask) {
  let [busy, next] = [false, null];
  const enter = async (wish) => {
    if (busy) {
      next = wish;
      return;
    }
    busy = true;
    await ask(wish);
    busy = false;
    const waiting = next;
    next = null;
    if (waiting !== null) await enter(waiting);
  };
  return enter;
}
