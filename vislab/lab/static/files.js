// What comes and goes: a photograph to look at, a figure to keep, the Python that makes it again.

import { make } from "./elements.js";
import { closerReading } from "./reading.js";
import { isTwo, masksNow, now, remembered, visibleBoxes } from "./settings.js";
import { amount, python } from "./words.js";

const UPLOAD = 10e6; // bytes: a server takes messages of 10 MiB, and closes the kernel's connection over a longer one
const SHRUNK = [4096, 0.9]; // px of the longer side, and quality as JPEG: of a photograph that has more bytes
// As vislab.save has them.
const SAVED = {
  opacity: 0.6,
  blend: "even",
  colormap: "viridis",
  smooth: false,
  normalise: "map",
  threshold: 0,
  grid: false,
};

export function bindFiles(store, ui) {
  ui.upload.addEventListener("change", async () => {
    await upload(store, ui.upload.files[0]);
    ui.upload.value = "";
  });
  if (!store.page) {
    ui.panes.addEventListener("dragover", (event) => event.preventDefault());
    ui.panes.addEventListener("drop", (event) => {
      event.preventDefault();
      upload(store, event.dataTransfer.files[0]);
    });
  }
  for (const button of [...ui.exports, ...ui.maskExports]) {
    button.addEventListener("click", () => {
      store.change({
        exporting: true,
        asked: "export",
        status: { state: "computing", words: `writing ${button.textContent}` },
      });
      store.port.send({ kind: "export", suffix: button.value, masks: ui.maskExports.includes(button) });
    });
  }
  ui.copy.addEventListener("click", () => navigator.clipboard?.writeText(ui.call.textContent));
}

/** Send a photograph to Python; one that is too large for a message is shrunk here. */
async function upload(store, file) {
  if (!file) return;
  const { name, size } = file;
  const history = remembered(store, { image: name });
  store.change({ status: { state: "computing", words: `reading ${name}` }, note: null, asked: "upload", ...history });
  if (size <= UPLOAD) return store.port.send({ kind: "upload", name }, undefined, [await file.arrayBuffer()]);
  const shrunk = await shrink(file);
  if (!shrunk) return store.change({ status: { state: "error", words: tooLarge(file) } });
  const { bytes, width, height } = shrunk;
  const note = `${name} has ${amount(size, "B")}: shrunk to ${width} × ${height} px, ${amount(bytes.byteLength, "B")}.`;
  store.change({ note: { words: note } });
  store.port.send({ kind: "upload", name }, undefined, [bytes]);
}

/** A photograph as a JPEG that fits into a message -> {bytes, width, height}; null where the browser cannot read it. */
async function shrink(file) {
  const [longest, quality] = SHRUNK;
  let photo;
  try {
    photo = await createImageBitmap(file);
  } catch {
    return null;
  }
  for (let side = longest; side >= 512; side /= 2) {
    const share = Math.min(1, side / Math.max(photo.width, photo.height));
    const [width, height] = [photo.width, photo.height].map((px) => Math.max(1, Math.round(px * share)));
    const canvas = make("canvas", { width, height });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(photo, 0, 0, width, height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
    if (blob.size > UPLOAD) continue;
    photo.close();
    return { bytes: await blob.arrayBuffer(), width, height };
  }
  photo.close();
  return null;
}

function tooLarge({ name, size }) {
  const most = `this browser cannot read it, and sends ${amount(UPLOAD, "B")} at most`;
  return `${name} has ${amount(size, "B")}; ${most}: save it as JPEG or PNG first`;
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
  store.change({ loading, panes, photo: null, zoom: 1, centre: null });
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
    const drawn = look.filter((name) => ["opacity", "blend", "colormap"].includes(name)).map(written);
    return [...begun, `seen = ${closer.call}`, `seen.overlay(${drawn.join(", ")})`, ...masksCode(store)].join("\n");
  }
  const names = ["heat", "other"].slice(0, shown.length);
  const calls = shown.map(({ call }, i) => `${names[i]} = ${call}`);
  const what = names.length > 1 ? `[${names.join(", ")}]` : names[0];
  const any = visibleBoxes(store).length > 0;
  const threshold = `confidence=${now(store, "confidence")}`;
  const boxes = any ? [`boxes = vislab.detect(image, detector=${python(now(store, "detector"))}, ${threshold})`] : [];
  const how = [...(any ? ["detections=boxes"] : []), ...look.map(written)];
  const save = `vislab.save(${['"figure.pdf"', what, ...how].join(", ")})`;
  return [...begun, ...calls, ...boxes, save, ...masksCode(store)].join("\n");
}

/** The Python of the masks that are shown. */
function masksCode(store) {
  const told = masksNow(store);
  if (!told?.masks || !now(store, "masked")) return [];
  return ["", `masks = ${told.call}`, 'vislab.save("masks.png", masks)'];
}
