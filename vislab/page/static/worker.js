// What runs beside the page: photographs are read here, and the model runs here, so that the page never halts.

import { forward, fromBase64, gunzipped, opened } from "./engine.js";
import { resizer } from "./pixels.js";

const STRIP = 256; // rows of a photograph that are read at a time
const SHOWN = 1024; // px, the longer side of the photograph that the page draws
const MOST_PIXELS = 50_000_000;
const held = { model: null, photos: new Map() };

/** A part of the page: text that stands in it, as base64, or the address of a file beside it. */
async function bytesOf({ text, address }) {
  if (text !== undefined) return fromBase64(text.trim());
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** A photograph as pixels for the model, kept under its name, and as a picture for the page. */
async function photograph({ name, blob, picture }, side) {
  const bitmap = picture ?? (await createImageBitmap(blob));
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    bitmap.close();
    return { kind: "large", width, height };
  }
  const resized = resizer(width, height, side);
  const canvas = new OffscreenCanvas(width, Math.min(STRIP, height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  for (let top = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top);
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    resized.add(context.getImageData(0, 0, width, rows).data, top, rows);
  }
  held.photos.set(name, resized.done());
  const scale = Math.min(1, SHOWN / Math.max(width, height));
  const drawn = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  drawn.getContext("2d").drawImage(bitmap, 0, 0, drawn.width, drawn.height);
  bitmap.close();
  return { kind: "photo", name, width, height, picture: drawn.transferToImageBitmap() };
}

async function answer(message) {
  if (message.kind === "open") {
    const [code, weights] = await Promise.all([message.kernel, message.weights].map(bytesOf));
    held.model = await opened(code, await gunzipped(weights), message.form);
    return { kind: "ready" };
  }
  if (message.kind === "photo") return photograph(message, message.side);
  const start = performance.now();
  const run = forward(held.model, held.photos.get(message.photo), message.wish);
  return { kind: "ran", run, ms: performance.now() - start };
}

self.onmessage = async ({ data }) => {
  try {
    const reply = await answer(data);
    const { picture, run } = reply;
    const moved = picture ? [picture] : run?.q ? [run.q.buffer, run.k.buffer] : [];
    self.postMessage({ ...reply, id: data.id }, moved);
  } catch (error) {
    const full = error instanceof RangeError;
    self.postMessage({
      kind: "failed",
      what: full ? "memory" : data.kind,
      words: String(error?.message ?? error),
      id: data.id,
    });
  }
};
