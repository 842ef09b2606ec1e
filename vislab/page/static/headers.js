// How large a picture is, from its first bytes: what is too large is refused before it is decoded.

const HEAD = 1 << 20; // bytes that are looked through
const text = (view, at, length) => String.fromCharCode(...new Uint8Array(view.buffer, at, length));

/** The frame of a JPEG comes after segments of any length: thumbnails, colour profiles. */
function sizeOfJpeg(view) {
  for (let at = 2; at + 9 < view.byteLength && view.getUint8(at) === 0xff; ) {
    const kind = view.getUint8(at + 1);
    if (kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind))
      return [view.getUint16(at + 7), view.getUint16(at + 5)];
    at += kind === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
  return null;
}

function sizeOfWebp(view) {
  const three = (at) => 1 + view.getUint16(at, true) + (view.getUint8(at + 2) << 16);
  const kind = text(view, 12, 4);
  if (kind === "VP8X") return [three(24), three(27)];
  if (kind === "VP8 ") return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
  const bits = view.getUint32(21, true);
  return kind === "VP8L" ? [1 + (bits & 0x3fff), 1 + ((bits >> 14) & 0x3fff)] : null;
}

/** [width, height] that the bytes of a PNG, JPEG, WebP, GIF or BMP state, in an ArrayBuffer; null where none is found. */
export function sizeIn(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < 32) return null;
  if (view.getUint32(0) === 0x89504e47) return [view.getUint32(16), view.getUint32(20)];
  if (view.getUint16(0) === 0xffd8) return sizeOfJpeg(view);
  if (text(view, 0, 4) === "RIFF" && text(view, 8, 4) === "WEBP") return sizeOfWebp(view);
  if (text(view, 0, 3) === "GIF") return [view.getUint16(6, true), view.getUint16(8, true)];
  if (text(view, 0, 2) === "BM") return [view.getInt32(18, true), Math.abs(view.getInt32(22, true))];
  return null;
}

export const sizeOf = async (blob) => sizeIn(await blob.slice(0, HEAD).arrayBuffer());
