// Which part of the photograph a canvas shows, and how large: all of it, or a part while it is zoomed.

export const CLOSEST = 16; // times as large as all of it

/**
 * room: [width, height], how large a canvas may be, px of the page; source: [height, width] of the photograph, px; zoom: 1
 * shows all of it; centre: [x, y], the source pixel that is wanted in the middle, null for that of the photograph.
 * -> {room} as given; {wide, high}: the canvas, px; scale: px a source pixel; x, y: the source pixel in its corner.
 */
export function sightOf(room, [height, width], zoom = 1, centre = null) {
  const [broad, tall] = room;
  const scale = (Math.min(broad, (tall * width) / height) / width) * zoom;
  const [wide, high] = [Math.min(broad, width * scale), Math.min(Math.max(tall, 1), height * scale)];
  const [cx, cy] = centre ?? [width / 2, height / 2];
  const corner = (at, seen, all) => Math.min(Math.max(at - seen / 2, 0), Math.max(0, all - seen));
  return { room, wide, high, scale, x: corner(cx, wide / scale, width), y: corner(cy, high / scale, height) };
}

/** The source pixel under a place on a canvas. box: of the canvas on the page, px. */
export function sourceAt({ wide, high, scale, x, y }, box, clientX, clientY) {
  return [
    x + (((clientX - box.left) / box.width) * wide) / scale,
    y + (((clientY - box.top) / box.height) * high) / scale,
  ];
}

/** The centre with which a source pixel stays where it is on the canvas when the zoom is another. */
export function centreKeeping(sight, source, [px, py], zoom) {
  const { wide, high, scale } = sightOf(sight.room, source, zoom);
  const left = px - ((px - sight.x) * sight.scale) / scale;
  const top = py - ((py - sight.y) * sight.scale) / scale;
  return [left + wide / scale / 2, top + high / scale / 2];
}
