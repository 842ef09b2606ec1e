// What runs beside the page: photographs are read here, and the model runs here, so that the page never halts.

import { forward, look, opened } from "./engine.js";
import { sizeOf } from "./headers.js";
import { resizer } from "./pixels.js";

const STRIP = 256; // rows of a photograph that are read at a time
const SHOWN = 1024; // px, the longer side of the photograph that the page draws
const MOST_PIXELS = 50_000_000;
const held = { model: null, photos: new Map(), runs: new Map() };

/** A part of the page as a stream of bytes: pieces that came with the message, or a file beside the page. */
async function streamOf({ pieces, address }) {
  if (pieces) {
    const whole = new Blob(pieces);
    for (const { buffer } of pieces) buffer.transfer?.(0); // freed now, and not when the browser is short of memory
    return whole.stream();
  }
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.body;
}

async function bytesIn(stream) {
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A large photograph as the page draws it. */
function reduced(bitmap) {
  const scale = SHOWN / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map((one) => Math.max(1, Math.round(one * scale)));
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, width, height);
  return canvas;
}

/** A photograph as pixels for the model, kept under its name, and as a picture for the page. */
async function photograph({ name, blob, picture }, side) {
  const [stated, high] = (blob && (await sizeOf(blob))) ?? [0, 0];
  if (stated * high > MOST_PIXELS) return { kind: "large", width: stated, height: high };
  const bitmap = picture ?? (await createImageBitmap(blob));
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    bitmap.close();
    return { kind: "large", width, height };
  }
  const resized = resizer(width, height, side);
  const small = Math.max(width, height) <= SHOWN; // drawn once, for the model and for the page
  const strip = small ? height : Math.min(STRIP, height);
  const canvas = new OffscreenCanvas(width, strip);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  for (let top = 0; top < height; top += strip) {
    const rows = Math.min(strip, height - top);
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    resized.add(context.getImageData(0, 0, width, rows).data, top, rows);
  }
  held.photos.set(name, resized.done());
  const shown = small ? canvas : reduced(bitmap);
  bitmap.close();
  return { kind: "photo", name, width, height, picture: shown.transferToImageBitmap() };
}

async function answer(message) {
  if (message.kind === "open") {
    const [code, weights] = await Promise.all([message.kernel, message.weights].map(streamOf));
    const unzipped = weights.pipeThrough(new DecompressionStream("gzip"));
    const [kernel, values] = await Promise.all([code, unzipped].map(bytesIn));
    held.model = await opened(kernel, values, message.form);
    values.buffer.transfer?.(0);
    return { kind: "ready" };
  }
  if (message.kind === "photo") return photograph(message, message.side);
  if (message.kind === "look")
    return { kind: "looked", at: look(held.model, held.runs.get(message.run), message.wish) };
  return run(message);
}

/**
 * A forward; where more is asked of it, its states are held under the number of the message until they are let go.
 * picture: of a camera, in place of the photograph of that name, and read first.
 */
async function run({ id, photo, wish, picture, side }) {
  const seen = picture ? await photograph({ name: photo, picture }, side) : null;
  const start = performance.now();
  const found = forward(held.model, held.photos.get(photo), wish);
  const ms = performance.now() - start;
  if (!found.held) return { kind: "ran", run: found.run, ms, seen };
  held.runs.set(id, found.held);
  return { kind: "ran", run: { ...found.run, id }, at: look(held.model, found.held, wish.look), ms, seen };
}

/** Let all runs go but some; buffers that come back are filled again. */
function keep({ runs, buffers }) {
  held.model.spare.push(...buffers);
  for (const [id, { states }] of held.runs) {
    if (runs.includes(id)) continue;
    held.model.spare.push(states.buffer);
    held.runs.delete(id);
  }
}

self.onmessage = async ({ data }) => {
  if (data.kind === "keep") {
    keep(data);
    return;
  }
  try {
    const reply = await answer(data);
    const { picture, at, seen } = reply;
    const moved = [picture, seen?.picture, at?.q.buffer, at?.k.buffer].filter(Boolean);
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
