// What comes and goes: a photograph to look at, a figure to keep, the Python that makes it again.

import { make } from "./elements.js";
import { closerReading } from "./reading.js";
import { isTwo, now, visibleBoxes } from "./settings.js";
import { amount, python } from "./words.js";

const UPLOAD = 10e6; // bytes: a server takes messages of 10 MiB, and closes the kernel's connection over a longer one
const SAVED = { opacity: 0.6, colormap: "viridis", smooth: false, normalise: "map", threshold: 0 }; // as vislab.save has them

export function bindFiles(store, ui) {
  ui.upload.addEventListener("change", async () => {
    const [file] = ui.upload.files;
    if (!file) return;
    if (file.size > UPLOAD) store.change({ status: { state: "error", words: tooLarge(file) } });
    else {
      store.change({ status: { state: "computing", words: `reading ${file.name}` } });
      store.port.send({ kind: "upload" }, undefined, [await file.arrayBuffer()]);
    }
    ui.upload.value = "";
  });
  for (const button of ui.exports) {
    button.addEventListener("click", () => {
      store.change({ exporting: true, status: { state: "computing", words: `writing ${button.textContent}` } });
      store.port.send({ kind: "export", suffix: button.value });
    });
  }
  ui.copy.addEventListener("click", () => navigator.clipboard?.writeText(ui.call.textContent));
}

function tooLarge({ name, size }) {
  const open = `vislab.Lab(${JSON.stringify(name)})`;
  return `${name} has ${amount(size, "B")}, and a notebook takes ${amount(UPLOAD, "B")} at once: put the file beside the notebook, and open it with ${open}`;
}

/** Hand a file to the browser, as a download. */
export function download(name, bytes) {
  const link = make("a", { href: URL.createObjectURL(new Blob([bytes])), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Decode the port's photograph into the store, unless another comes meanwhile. */
export async function loadPhoto(store) {
  const { port, state } = store;
  const bytes = port.get("_photo");
  const loading = {};
  const panes = state.panes.map((pane) =>
    pane.shown?.content === port.get("_content") ? pane : { ...pane, shown: null },
  );
  state.photo?.close();
  store.change({ loading, panes, photo: null });
  if (!bytes?.byteLength) return;
  const photo = await createImageBitmap(new Blob([bytes]));
  if (store.state.loading === loading) store.change({ photo });
  else photo.close();
}

/** The Python that makes what is shown again. */
export function codeOf(store) {
  const { panes, closer } = store.state;
  const shown = panes.slice(0, isTwo(store) ? 2 : 1).map((pane) => pane.shown);
  const begun = ["import vislab", "", `image = ${shown[0].source}`];
  const written = (name) => `${name}=${python(now(store, name))}`;
  const look = Object.keys(SAVED).filter((name) => now(store, name) !== SAVED[name]);
  if (closerReading(store, panes[0])) {
    const drawn = look.filter((name) => ["opacity", "colormap"].includes(name)).map(written);
    return [...begun, `seen = ${closer.call}`, `seen.overlay(${drawn.join(", ")})`].join("\n");
  }
  const names = ["heat", "other"].slice(0, shown.length);
  const calls = shown.map(({ call }, i) => `${names[i]} = ${call}`);
  const what = names.length > 1 ? `[${names.join(", ")}]` : names[0];
  const any = visibleBoxes(store).length > 0;
  const threshold = `confidence=${now(store, "confidence")}`;
  const boxes = any ? [`boxes = vislab.detect(image, detector=${python(now(store, "detector"))}, ${threshold})`] : [];
  const how = [...(any ? ["detections=boxes"] : []), ...look.map(written)];
  const save = `vislab.save(${['"figure.pdf"', what, ...how].join(", ")})`;
  return [...begun, ...calls, ...boxes, save].join("\n");
}
