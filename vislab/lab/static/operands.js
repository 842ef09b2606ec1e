// Queries and keys, fetched once a layer and kept while there is room, and the rows that are made from them.

import { attentionColumn, attentionRow, fuse, logSums, typed, unpacked } from "./numbers.js";
import { layerIndex } from "./settings.js";

const MEMORY = 192e6; // bytes of queries and keys kept in the page

/** A layer's q and k, or why there are none; null while they are on their way. sums: whether a column needs them. */
export function operands({ port, memory: { layers } }, { run }, layer, sums) {
  const key = `${run}:${layer}`;
  const held = layers.get(key);
  if (held && (held.refused || held.sums || !sums)) {
    layers.delete(key);
    layers.set(key, held); // now the last used
    return held;
  }
  if (held !== null) {
    layers.set(key, null);
    port.send({ kind: "layer", run, layer, sums });
  }
  return layers.get(key) ?? null; // a page answers at once
}

/** Keep what came of a layer, and let go of those that were not used for longest. */
export function keepLayer({ page, memory: { layers } }, message, buffers) {
  const key = `${message.run}:${message.layer}`;
  if (message.refused) layers.set(key, { refused: message.refused, bytes: 0 });
  else {
    const [heads, tokens] = message.shape;
    const { parts } = message;
    const after = 2 * parts.length + 1;
    const added = message.added ? typed(buffers[after], Float32Array) : null;
    const own = { ...unpacked(parts, buffers, heads, tokens), added };
    const last = buffers[after + Number(Boolean(message.added))];
    const sums = last ? typed(last, Float32Array) : page && message.sums && logSums(own);
    layers.set(key, { ...own, sums, bytes: 2 * own.q.byteLength });
  }
  let held = 0;
  for (const value of layers.values()) held += value?.bytes ?? 0;
  for (const [old, value] of layers) {
    if (held <= MEMORY || old === key) break;
    if (value) {
      held -= value.bytes;
      layers.delete(old);
    }
  }
}

/** A token's row or column over all tokens, heads fused -> {layer, row}; what `operands` has where that is no q and k. */
export function localRow(store, { index, shown }, settings, token, incoming) {
  const layer = layerIndex(shown, settings.layer);
  const held = operands(store, shown, layer, incoming);
  if (!held || held.refused) return held;
  const factor = incoming ? 1 : settings.attention_scale / shown.settings.attention_scale;
  const key = `${shown.run}:${layer}:${token}:${incoming}:${factor}`;
  const { rows } = store.memory;
  if (rows[index].key !== key) {
    rows[index] = { key, rows: incoming ? attentionColumn(held, token) : attentionRow(held, token, factor) };
  }
  return { layer, row: fuse(rows[index].rows, held.heads, held.tokens, settings.head) };
}
