// The store of one view: all that changes in it. `state` is frozen, and `change` alone replaces it; the settings are the
// port's, which keeps them in a kernel or in a page.

const START = {
  status: { state: "computing", words: "waiting for Python" },
  alone: false, // whether the kernel is gone
  exporting: false, // whether this view waits for a file
  photo: null, // an ImageBitmap
  loading: null, // whose turn it is to become the photo
  // What Python told last, each as its message.
  about: null,
  panes: [0, 1].map((index) => ({ index, shown: null, values: null })), // the views, and their values, one a patch
  plain: null,
  boxes: null,
  closer: null,
  masks: null,
  atlas: null,
  lens: null,
  removal: null,
  takes: null, // what the model takes in words: a "question", a "text", or nothing
  asks: null, // what can be asked of it
  answer: null,
  saying: null, // the words of an answer on its way
  without: null,
  filled: null, // {run, image}: what the model sees where patches are gone
  maps: {}, // method -> its map of a run, or why there is none
  mapCount: 0, // how many of those came
  // What the user is at.
  hover: null, // the point under the pointer, source pixels
  pointed: null, // the word under the pointer
  drag: {}, // what sliders say while they are dragged; nobody else is told before they are let go
  unfolded: {}, // name of a section -> whether it is open
  film: null, // "deletion" or "insertion", while patches go or come back by themselves
  filmOf: null, // the photograph and the settings that it is made of, as text
  step: 0, // how far that is shown
  playing: 0, // the clock that moves it on
  taken: { run: null, patches: [] }, // patches of a run that were clicked away
  past: [], // settings before each change, the newest last
  future: [], // those that were undone
  zoom: 1, // of the pictures, and the source pixel in their middle
  centre: null,
  passing: null, // the layer whose tokens are shown, while they are; between two where it moves on
  passClock: 0, // the clock that moves it on
  tool: "point", // what a click on the photograph does
  cursor: null, // where keys would set the next mark, source pixels, and the first corner of a box
  corner: null,
  presenting: false,
  help: null, // the sentence of what is pointed at, while that is told
  asked: null, // the control that was used last
  acting: null, // the one that was last in hand, which the diagram is about
  note: null, // what a change brought with it: {words, ways}, ways: {words: settings}, buttons that set those
};

/**
 * port: what keeps the settings and answers messages: get, set, save_changes, on, off, send. page: whether there is no
 * kernel behind it. memory: what can be had again, written while drawing; it changes nothing that is seen.
 */
export function createStore(port, page) {
  let state = Object.freeze(START);
  const listeners = new Set();
  return {
    port,
    page,
    // layers: "run:layer" -> its q and k, the last used last; null while on their way. rows: a pane's last row.
    // looks: maps of words. masks: drawn, of the last message.
    memory: { layers: new Map(), rows: [{ key: null }, { key: null }], looks: new Map(), atlasRun: null, masks: null },
    get state() {
      return state;
    },
    /** Replace parts of the state, and tell who subscribed which; none: something outside it is new. */
    change(parts = {}) {
      state = Object.freeze({ ...state, ...parts });
      for (const listener of listeners) listener(Object.keys(parts));
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/**
 * Call draw(all) after changes, once a frame at most; all: whether more is new than where the pointer is.
 * -> a function that ends it.
 */
export function onFrames(store, draw) {
  let pending = 0;
  let full = false;
  const end = store.subscribe((names) => {
    full ||= String(names) !== "hover";
    pending ||= requestAnimationFrame(() => {
      const all = full;
      pending = 0;
      full = false;
      draw(all);
    });
  });
  return () => {
    end();
    cancelAnimationFrame(pending);
  };
}
