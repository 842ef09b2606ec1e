// The Lab's face: one ES module without dependencies, used unchanged in notebooks (the default export, for anywidget)
// and in exported pages (`mount`). Everything that needs no forward of the model is computed here.
// Pure functions first; then `view`, where `paint` alone draws pictures and `label` alone writes controls.

// ---- pure: numbers ----

/** A buffer (ArrayBuffer or view of one) as a typed array of its own, whatever its alignment was. */
export function typed(bytes, Type) {
  const view = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
  return new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function dot(a, i, b, j, dim) {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0, d = 0;
  for (; d + 3 < dim; d += 4) {
    s0 += a[i + d] * b[j + d]; s1 += a[i + d + 1] * b[j + d + 1];
    s2 += a[i + d + 2] * b[j + d + 2]; s3 += a[i + d + 3] * b[j + d + 3];
  }
  for (; d < dim; d++) s0 += a[i + d] * b[j + d];
  return s0 + s1 + s2 + s3;
}

/** What one token attends to: softmaxⱼ(factor · qᵢ·kⱼ) of every head. q, k: [heads, tokens, dim] -> [heads, tokens]. */
export function attentionRow({ q, k, heads, tokens, dim }, token, factor = 1) {
  const out = new Float32Array(heads * tokens);
  for (let h = 0; h < heads; h++) {
    const start = h * tokens, own = (start + token) * dim;
    let top = -Infinity, sum = 0;
    for (let j = start; j < start + tokens; j++) {
      const logit = factor * dot(q, own, k, j * dim, dim);
      out[j] = logit;
      if (logit > top) top = logit;
    }
    for (let j = start; j < start + tokens; j++) sum += out[j] = Math.exp(out[j] - top);
    for (let j = start; j < start + tokens; j++) out[j] /= sum;
  }
  return out;
}

/** Who attends to one token: exp(qᵢ·kⱼ − log Σⱼ exp(qᵢ·kⱼ)) for every i. sums: those logarithms, [heads, tokens]. */
export function attentionColumn({ q, k, sums, heads, tokens, dim }, token) {
  const out = new Float32Array(heads * tokens);
  for (let h = 0; h < heads; h++) {
    const own = (h * tokens + token) * dim;
    for (let i = h * tokens; i < (h + 1) * tokens; i++) out[i] = Math.exp(dot(q, i * dim, k, own, dim) - sums[i]);
  }
  return out;
}

/** log Σⱼ exp(qᵢ·kⱼ) of every row -> [heads, tokens]. */
export function logSums({ q, k, heads, tokens, dim }) {
  const out = new Float32Array(heads * tokens), logits = new Float64Array(tokens);
  for (let i = 0; i < out.length; i++) {
    const start = i - (i % tokens);
    let top = -Infinity, sum = 0;
    for (let j = 0; j < tokens; j++) {
      logits[j] = dot(q, i * dim, k, (start + j) * dim, dim);
      if (logits[j] > top) top = logits[j];
    }
    for (let j = 0; j < tokens; j++) sum += Math.exp(logits[j] - top);
    out[i] = top + Math.log(sum);
  }
  return out;
}

/**
 * Queries and keys that came as whole numbers. parts: [[bytes, channels], …], for each a buffer of q and one of k,
 * [heads, tokens, channels]; after them steps, [heads, all channels]: q·k = Σ steps·q·k.
 */
export function unpacked(parts, buffers, heads, tokens) {
  const dim = parts.reduce((sum, [, channels]) => sum + channels, 0), steps = typed(buffers[2 * parts.length], Float32Array);
  const q = new Float32Array(heads * tokens * dim), k = new Float32Array(q.length);
  let first = 0;
  parts.forEach(([bytes, channels], part) => {
    const [from, to] = [0, 1].map((i) => typed(buffers[2 * part + i], bytes === 2 ? Int16Array : Int8Array));
    for (let row = 0, i = 0; row < heads * tokens; row++) {
      const o = row * dim + first, step = Math.floor(row / tokens) * dim + first;
      for (let c = 0; c < channels; c++, i++) {
        q[o + c] = from[i] * steps[step + c];
        k[o + c] = to[i];
      }
    }
    first += channels;
  });
  return { q, k, heads, tokens, dim };
}

/** [heads, tokens] -> [tokens]: one head, or all of them by "mean", "max", "min". */
export function fuse(rows, heads, tokens, head) {
  if (typeof head === "number") {
    const start = ((head + heads) % heads) * tokens;
    return rows.slice(start, start + tokens);
  }
  const out = rows.slice(0, tokens);
  for (let h = 1; h < heads; h++) {
    for (let j = 0; j < tokens; j++) {
      const v = rows[h * tokens + j];
      if (head === "mean") out[j] += v;
      else if (head === "max" ? v > out[j] : v < out[j]) out[j] = v;
    }
  }
  if (head === "mean") for (let j = 0; j < tokens; j++) out[j] /= heads;
  return out;
}

/** −Σ p·log₂ p, bits. */
export function entropyBits(row) {
  let bits = 0;
  for (const p of row) if (p > 0) bits -= p * Math.log2(p);
  return bits;
}

export function span(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return [low, high];
}

/** Round numbers between low and high, about `count` of them. */
export function ticks(low, high, count = 4) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-12); i++) found.push(i * step);
  return found;
}

/** [rows, cols] read `fine` times as finely, bilinearly between patch centres and constant beyond the outermost. */
export function upsample(values, rows, cols, fine) {
  const wide = cols * fine, across = new Float32Array(rows * wide), out = new Float32Array(rows * fine * wide);
  for (let x = 0; x < wide; x++) {
    const [c0, c1, w] = neighbours(x, cols, fine);
    for (let r = 0; r < rows; r++) across[r * wide + x] = values[r * cols + c0] * (1 - w) + values[r * cols + c1] * w;
  }
  for (let y = 0; y < rows * fine; y++) {
    const [r0, r1, w] = neighbours(y, rows, fine), above = r0 * wide, below = r1 * wide, o = y * wide;
    for (let x = 0; x < wide; x++) out[o + x] = across[above + x] * (1 - w) + across[below + x] * w;
  }
  return out;
}

function neighbours(i, count, fine) {
  const at = Math.min(Math.max((i + 0.5) / fine - 0.5, 0), count - 1), first = Math.floor(at);
  return [first, Math.min(first + 1, count - 1), at - first];
}

/** The two ends of the colours of some values; where values below 0 speak against something, 0 is in the middle. */
export function endsOf(lists, signed) {
  const [low, high] = span(lists.flatMap((values) => span(values))), end = Math.max(-low, high) || 1;
  return signed ? [-end, end] : [low, high];
}
export const centred = ([low, high]) => low === -high && low < 0;

/**
 * Values -> RGBA through a table of 256 RGB colours; what is weak is transparent: below `threshold`, a fraction of the
 * range, or, where 0 is in its middle, of the way from 0 to its ends.
 */
export function coloured(values, range, table, threshold = 0) {
  const [low, high] = range, both = centred(range);
  const out = new Uint8ClampedArray(values.length * 4), by = high > low ? 1 / (high - low) : 0;
  for (let i = 0, o = 0; i < values.length; i++, o += 4) {
    const share = Math.min(Math.max((values[i] - low) * by, 0), 1), c = 3 * Math.min(Math.floor(share * 256), 255);
    out[o] = table[c]; out[o + 1] = table[c + 1]; out[o + 2] = table[c + 2];
    out[o + 3] = (both ? Math.abs(2 * share - 1) : share) < threshold ? 0 : 255;
  }
  return out;
}

// ---- pure: tokens and what they cost ----

/** size: [height, width], patch: [height, width] px -> {rows, cols, tokens}. */
export function gridOf(size, patch, extra = 0) {
  const [rows, cols] = [0, 1].map((axis) => Math.floor(size[axis] / patch[axis]));
  return { rows, cols, tokens: rows * cols + extra };
}

/** q·kᵀ and weights·v: 4·n²·d operations a layer, a multiply-add counting 2. */
export const attentionFlops = (tokens, dim, layers) => 4 * tokens ** 2 * dim * layers;

/** Bytes of the n×n maps of all heads and layers in float32, as eager attention makes them. */
export const mapBytes = (tokens, heads, layers) => 4 * heads * tokens ** 2 * layers;

/** Attention, and 24·n·d² a layer for projections and an MLP four times as wide. */
export const forwardFlops = (tokens, dim, layers) =>
  attentionFlops(tokens, dim, layers) + 24 * tokens * dim ** 2 * layers;

/** Patch sizes that divide both sides of an input. */
export function dividing(size, least, most) {
  const all = Array.from({ length: most - least + 1 }, (_, i) => least + i);
  return all.filter((p) => size[0] % p === 0 && size[1] % p === 0);
}

/** Input sizes that patches fill. */
export function multiples(patch, least, most) {
  const all = Array.from({ length: Math.floor(most / patch) }, (_, i) => (i + 1) * patch);
  return all.filter((s) => s >= least);
}

/** The allowed value nearest to what a slider says; a step away from the current one always reaches its neighbour. */
export function snap(raw, current, allowed) {
  const near = allowed.reduce((best, v) => (Math.abs(v - raw) < Math.abs(best - raw) ? v : best));
  if (near !== current || raw === current) return near;
  const further = allowed.filter((v) => (raw > current ? v > current : v < current));
  return further.length ? (raw > current ? further[0] : further.at(-1)) : current;
}

/** Slider steps -50…30 -> attention scale 0.1…4, logarithmic on either side of 0 -> 1; and back. */
export const scaleAt = (i) => Number((i < 0 ? 10 ** (i / 50) : 4 ** (i / 30)).toPrecision(3));
export const scaleStep = (s) => Math.round(s < 1 ? 50 * Math.log10(s) : (30 * Math.log(s)) / Math.log(4));

// ---- pure: where things are ----

/** frame: {scale, offset} as (y, x), model = source·scale + offset. */
export const toModel = ({ scale, offset }, x, y) => [x * scale[1] + offset[1], y * scale[0] + offset[0]];
export const toSource = ({ scale, offset }, x, y) => [(x - offset[1]) / scale[1], (y - offset[0]) / scale[0]];

/** The patch over a point in source pixels -> [row, col], or null where the model saw nothing. */
export function cellAt(frame, grid, x, y) {
  const [mx, my] = toModel(frame, x, y), row = Math.floor(my / grid.patch[0]), col = Math.floor(mx / grid.patch[1]);
  return row >= 0 && row < grid.rows && col >= 0 && col < grid.cols ? [row, col] : null;
}

/** A patch's box in source pixels -> [x0, y0, x1, y1]. */
export function boxOf(frame, grid, row, col) {
  const [h, w] = grid.patch;
  return [...toSource(frame, col * w, row * h), ...toSource(frame, (col + 1) * w, (row + 1) * h)];
}

/** What the model sees of the photograph -> [x, y, width, height] in source pixels. */
export function seenBy(frame) {
  const [x0, y0] = toSource(frame, 0, 0), [x1, y1] = toSource(frame, frame.model[1], frame.model[0]);
  return [x0, y0, x1 - x0, y1 - y0];
}

/** The grid and the frame of a heatmap, as Python tells them. */
export function placed({ grid: [rows, cols, high, wide, prefix], frame: [, model, scale, offset] }) {
  return { grid: { rows, cols, patch: [high, wide], prefix }, frame: { model, scale, offset } };
}

// ---- pure: words ----

export const whole = (n) => Math.round(n).toLocaleString("en");
export function amount(n, unit) {
  const power = n > 0 ? Math.min(4, Math.max(0, Math.floor(Math.log10(n) / 3))) : 0;
  const v = n / 1000 ** power;
  return `${v >= 99.5 ? Math.round(v) : Number(v.toPrecision(2))} ${["", "k", "M", "G", "T"][power]}${unit}`;
}
export const duration = (s) => (s < 1 ? `${Number((s * 1000).toPrecision(2))} ms` : `${Number(s.toPrecision(2))} s`);
/** A change in words, with its sign in an arrow; nothing where it rounds to nothing. */
export function change(now, before, digits, unit = "") {
  const by = (now - before).toFixed(digits);
  return Number(by) === 0 ? "" : `${by > 0 ? "▲" : "▼"} ${by.replace("-", "")}${unit}`;
}
/** Tick labels with the decimals that tell them apart. */
export function tickLabels(values) {
  const step = values.length > 1 ? values[1] - values[0] : Math.abs(values[0]) || 1;
  if (step < 1e-4) return values.map((v) => v.toExponential(1).replaceAll("-", "−"));
  let decimals = Math.max(0, -Math.floor(Math.log10(step)));
  if (Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals++;
  return values.map((v) => v.toFixed(decimals).replace("-", "−"));
}

// ---- the page ----

const HIGHEST = [540, 0.58]; // px, and share of the window: how high a photograph may stand
const MEMORY = 192e6; // bytes of queries and keys kept in the page
const PATCHES = [4, 64], INPUTS = [64, 1024]; // px, the ends of the sliders
const FORWARD = ["model", "patch_size", "image_size", "attention_scale"];
const READ = ["method", "layer", "head", "query", "target"];
const ANSWERED = ["image", ...FORWARD, ...READ, "compare", "before", "detector", "two_stage"]; // settings that Python answers
const ATTENTION = ["cls", "attention"]; // methods whose rows the page can make itself
const METHODS = {
  rollout: "rollout: all layers", cls: "attention: one layer", attention: "attention of a token",
  relevance: "relevance", grad_rollout: "gradient rollout", grad_cam: "Grad-CAM",
  integrated_gradients: "Integrated Gradients", occlusion: "occlusion", random: "a random order",
  cls_contribution: "contribution: CLS", token_contribution: "contribution: patches", both_contribution: "contribution: both",
};
const SAVED = { opacity: 0.6, colormap: "viridis", smooth: false, normalise: "map", threshold: 0 }; // as vislab.save has them
const methodName = (name) => METHODS[name] ?? name.replaceAll("_", " ");
const MARKS = [640, 1024, 2048];
const DARK = "rgb(0 0 0 / 0.6)";
const PACE = 150; // ms a step of a removal
const UPLOAD = 10e6; // bytes: a server takes messages of 10 MiB, and closes the kernel's connection over a longer one

/** An element. attributes: properties where it has them, else attributes; on…: listeners. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list" && name !== "role") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/**
 * port: what keeps the settings and answers messages, a kernel or a page: get, set, save_changes, on, off, send.
 * page: whether there is no kernel behind it.
 */
export function view(port, root, page = false) {
  root.classList.add("vislab-lab");
  // On what has the focus itself, for that is what JupyterLab's keys select: else X cuts the cell, and arrows leave it.
  root.addEventListener("focusin", ({ target }) => { target.dataset.lmSuppressShortcuts = "true"; });
  const ui = build(root, page);
  const maps = new Map(); // method -> its map of a run, or why there is none
  const layers = new Map(); // "run:layer" -> its q and k, the last used last; null while on their way
  const panes = [0, 1].map((index) => ({ index, shown: null, values: null, rows: new Map() }));
  let removal = null, step = 0, playing = 0; // what becomes of the class without patches, how far it is shown, its clock
  let closer = null; // each box by itself
  let photo = null, about = null, plain = null, found = null, came = 0, hover = null, atlas = null, atlasRun = null, pending = 0, full = false;
  let status = { state: "computing", words: "waiting for Python" }, alone = false, exporting = false;
  const drag = {}; // what a slider says while it is dragged; nobody else is told before it is let go

  // -- settings: now() is what the controls say, settingsOf() what a pane is to show

  const now = (name) => (name in drag ? drag[name] : port.get(name));
  function commit(changes) {
    for (const [name, value] of Object.entries(changes)) {
      delete drag[name];
      const changed = JSON.stringify(port.get(name)) !== JSON.stringify(value);
      const answered = ANSWERED.includes(name) || (name === "confidence" && now("two_stage"));
      if (changed && answered && !page) status = { state: "computing", words: "" };
      port.set(name, value);
    }
    port.save_changes();
    schedule();
  }
  const scaled = () => now("before") && now("attention_scale") !== 1;
  function second() {
    const chosen = now("compare");
    return Object.keys(chosen).length ? chosen : scaled() ? { attention_scale: 1 } : null;
  }
  function settingsOf(pane) {
    const own = Object.fromEntries([...FORWARD, ...READ].map((name) => [name, now(name)]));
    return pane.index ? { ...own, ...second() } : own;
  }
  /** What stands in the status line: without a kernel, nothing but that. */
  const said = () => (alone ? { state: "error", words: "no kernel: run the cell again" } : status);
  const same = (a, b, names) => names.every((name) => JSON.stringify(a[name]) === JSON.stringify(b[name]));
  const layerIndex = (shown, layer) =>
    layer === "mean" ? shown.model.layers - 1 : (layer + shown.model.layers) % shown.model.layers;

  // -- queries and keys, fetched once a layer

  function operands(shown, layer, sums) {
    const key = `${shown.run}:${layer}`, held = layers.get(key);
    if (held && (held.refused || held.sums || !sums)) {
      layers.delete(key);
      layers.set(key, held); // now the last used
      return held;
    }
    if (held !== null) {
      layers.set(key, null);
      port.send({ kind: "layer", run: shown.run, layer, sums });
    }
    return layers.get(key) ?? null; // a page answers at once
  }
  function keepLayer(message, buffers) {
    const key = `${message.run}:${message.layer}`;
    if (message.refused) layers.set(key, { refused: message.refused, bytes: 0 });
    else {
      const [heads, tokens] = message.shape, { parts } = message;
      const held = unpacked(parts, buffers, heads, tokens), last = buffers[2 * parts.length + 1];
      const sums = last ? typed(last, Float32Array) : page && message.sums && logSums(held);
      layers.set(key, { ...held, sums, bytes: 2 * held.q.byteLength });
    }
    let held = 0;
    for (const value of layers.values()) held += value?.bytes ?? 0;
    for (const [old, value] of layers) {
      if (held <= MEMORY || old === key) break;
      if (value) { held -= value.bytes; layers.delete(old); }
    }
  }

  /** A token's row or column over all tokens, heads fused, from q and k; null while they are on their way. */
  function local(pane, settings, token, incoming) {
    const { shown } = pane, layer = layerIndex(shown, settings.layer), held = operands(shown, layer, incoming);
    if (!held || held.refused) return held;
    const factor = incoming ? 1 : settings.attention_scale / shown.settings.attention_scale;
    const key = `${shown.run}:${layer}:${token}:${incoming}:${factor}`;
    if (pane.rows.key !== key) {
      const rows = incoming ? attentionColumn(held, token) : attentionRow(held, token, factor);
      pane.rows = { key, rows };
    }
    return { layer, row: fuse(pane.rows.rows, held.heads, held.tokens, settings.head) };
  }

  /** What a pane shows now: values over its patches, in what words, and whether they are a preview. */
  function picture(pane) {
    const { shown } = pane, settings = settingsOf(pane), { grid, model } = shown, at = hover ?? pinned();
    const cell = at && cellAt(shown.frame, grid, ...at), token = cell ? grid.prefix + cell[0] * grid.cols + cell[1] : null;
    const preview = settings.attention_scale !== shown.settings.attention_scale;
    const fresh = same(settings, shown.settings, [...FORWARD, ...READ]);
    const incoming = now("incoming") && !preview, who = cell ? `patch ${cell[0]}, ${cell[1]}` : "CLS";
    const early = settings.method === "rollout" && ATTENTION.includes(shown.settings.method); // what is ready before it
    const stays = { values: pane.values, cell, title: titleOf(shown, shown.settings), preview: early, signed: shown.signed };
    if (at && !cell) return { ...stays, words: "the model sees nothing here" };
    if (fresh && !hover && !incoming) return nearby(pane) ?? stays;
    const readable = token !== null || model.cls; // without CLS the summary is Python's
    const oneLayer = hover || preview || incoming || (ATTENTION.includes(settings.method) && settings.layer !== "mean");
    if (!readable || !oneLayer) return stays;
    const read = local(pane, settings, token ?? 0, incoming);
    if (!read) return stays;
    if (read.refused) return { ...stays, words: read.refused };
    const values = read.row.subarray(grid.prefix, grid.prefix + grid.rows * grid.cols);
    const does = incoming ? `who attends to ${who}` : `what ${who} attends to`;
    const head = headWords(settings.head);
    return { values, cell, preview, row: incoming ? null : read.row, title: `${does} · layer ${read.layer} · ${head}${scaleWords(settings)}` };
  }
  /** Whether something from Python is about what a pane shows. */
  const isOf = (told, { shown }) => told?.run === shown.run && same(told.settings, shown.settings, [...FORWARD, ...READ]);
  /** Each box by itself, where that is wanted and there. */
  function nearby(pane) {
    if (!now("two_stage") || pane.index || !isOf(closer, pane)) return null;
    const { crops, values, signed, costs } = closer, title = `${methodName(pane.shown.settings.method)} · each box by itself`;
    const took = costs.map((cost, i) => `${cost.name}: ${whole(cost.tokens)} tokens, ${i ? "about " : ""}${duration(cost.seconds)}`);
    return { crops, values, signed, cell: null, title, words: crops.length ? took.join(" · ") : "no box above the confidence: nothing to look at closer" };
  }
  const headWords = (head) => (typeof head === "number" ? `head ${head}` : `heads: ${head}`);
  const scaleWords = ({ attention_scale: s }) => (s === 1 && !second() ? "" : ` · scale\u00a0×\u00a0${s}`);
  function titleOf(shown, settings) {
    const layer = layerIndex(shown, settings.layer);
    const where = settings.layer === "mean" ? "mean of layers" : settings.method === "rollout" ? `layers 0–${layer}` : `layer ${layer}`;
    if (shown.target) {
      const parts = [`${methodName(settings.method)} for ${shown.target}`, takes("layer", settings.method) && where];
      return parts.filter(Boolean).join(" · ") + scaleWords(settings);
    }
    const name = settings.method === "rollout" ? "rollout" : "attention";
    return `${name} of ${shown.query} · ${where} · ${headWords(settings.head)}${scaleWords(settings)}`;
  }
  /** Whether a part of the question makes a difference to the method. */
  const takes = (part, method = now("method")) => about?.methods[method]?.includes(part);
  const pinned = () => (now("query") === "cls" ? null : now("query"));

  // -- the one place that draws pictures

  function paint() {
    const two = second() !== null && panes[1].shown !== null;
    const pictures = panes.map((pane) => (pane.shown && (two || !pane.index) ? picture(pane) : null));
    const shown = pictures.filter(Boolean), signed = pictures.map((p) => Boolean(p?.signed)), anySigned = signed.includes(true);
    const shared = now("normalise") === "shared" && two ? endsOf(shown.map((p) => p.values), anySigned) : null;
    const ranges = pictures.map((p, i) => p && (now("normalise") === "absolute" ? [-signed[i], 1] : shared ?? endsOf([p.values], signed[i])));
    // Beside each other or one above the other, whichever makes the larger pictures.
    const [height, width] = port.get("_source"), wide = ui.panes.clientWidth / 2, tall = highest() / 2.1;
    const stack = two && (tall * width) / height > wide * 1.1;
    ui.panes.classList.toggle("two", two && !stack);
    ui.figures[1].box.hidden = !two;
    panes.forEach((pane, index) => {
      if (index && !two) return;
      paintPane(pane, ui.figures[index], pictures[index], ranges[index], two, stack ? tall : highest());
    });
    say(ui.caption, caption(pictures[0]));
    const title = ui.figures[0].title.textContent;
    ui.canvas.setAttribute("aria-label", `Photograph with heatmap: ${title}. ${ui.caption.textContent}. Arrow keys walk the patches, Escape goes back to CLS.`);
  }

  const highest = () => Math.min(HIGHEST[0], innerHeight * HIGHEST[1]);

  function paintPane(pane, figure, shown, range, two, tall) {
    const { canvas } = figure, context = canvas.getContext("2d"), [height, width] = port.get("_source");
    const room = Math.min(figure.box.clientWidth, (tall * width) / height);
    const sharp = Math.min(2, devicePixelRatio || 1), wide = Math.max(1, Math.round(room * sharp));
    const high = Math.max(1, Math.round((wide * height) / width)), zoom = wide / width;
    if (canvas.width !== wide || canvas.height !== high) {
      Object.assign(canvas, { width: wide, height: high });
      canvas.style.width = `${wide / sharp}px`;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.imageSmoothingQuality = "high";
    if (photo) context.drawImage(photo, 0, 0, wide, high);
    if (!shown || !photo || !about) { figure.title.textContent = "the photograph"; return; }
    const { frame, grid } = pane.shown;
    context.setTransform(zoom, 0, 0, zoom, 0, 0); // from here on in source pixels
    const proposal = proposed(pane), unit = sharp / zoom;
    if (shown.crops) {
      context.fillStyle = DARK;
      context.fillRect(0, 0, width, height);
      for (const crop of shown.crops.toReversed()) layCrop(context, crop, range, figure.layer, unit);
    } else {
      lay(context, pane.shown, shown.values, range, figure.layer);
      dimOutside(context, frame, width, height);
      if (now("grid") || proposal) lines(context, frame, proposal ?? grid, unit);
    }
    for (const one of visible()) box(context, one, unit, width);
    if (shown.cell) outline(context, boxOf(frame, grid, ...shown.cell), unit, !hover);
    figure.title.textContent = (shown.preview ? "preview · " : "") + (proposal ? "new patches · " : "") + shown.title;
    figure.box.classList.toggle("preview", Boolean(shown.preview || proposal));
    figure.name.textContent = two ? paneName(pane) : "";
    colourBar(figure, range);
  }
  /** Values over their patches; the context draws in source pixels. layer: a canvas to make them in. */
  function lay(context, { frame, grid }, values, range, layer) {
    const smooth = now("smooth"), fine = smooth ? Math.max(1, Math.min(8, Math.floor(240 / Math.max(grid.rows, grid.cols)))) : 1;
    const [x0, y0] = toSource(frame, 0, 0), [x1, y1] = toSource(frame, grid.cols * grid.patch[1], grid.rows * grid.patch[0]);
    Object.assign(layer, { width: grid.cols * fine, height: grid.rows * fine });
    const pixels = coloured(smooth ? upsample(values, grid.rows, grid.cols, fine) : values, range, table(range), now("threshold"));
    layer.getContext("2d").putImageData(new ImageData(pixels, layer.width, layer.height), 0, 0);
    context.imageSmoothingEnabled = smooth;
    context.imageSmoothingQuality = "low"; // bilinear, as the values are
    context.globalAlpha = now("opacity");
    context.drawImage(layer, x0, y0, x1 - x0, y1 - y0);
    context.globalAlpha = 1;
  }
  /** A part of the photograph that was looked at by itself, over whatever is there. */
  function layCrop(context, crop, range, layer, unit) {
    const [height, width] = port.get("_source"), { frame, grid } = crop;
    context.save();
    context.beginPath();
    context.rect(...seenBy(frame));
    context.clip();
    context.drawImage(photo, 0, 0, width, height);
    lay(context, crop, crop.values, range, layer);
    if (now("grid")) lines(context, frame, grid, unit);
    context.restore();
  }
  /** What the two pictures differ in, where their titles do not say it. */
  function paneName(pane) {
    const [size, patch] = sizes(pane.shown.model, settingsOf(pane)), words = { model: pane.shown.model.name };
    Object.assign(words, { patch_size: `patches of ${patch[0]} px`, image_size: `input of ${size[1]} px` });
    return Object.keys(second()).map((name) => words[name]).filter(Boolean).join(", ");
  }
  /** The colours of a range: where 0 is in its middle, only a diverging colormap will do. */
  const table = (range = [0, 1]) => {
    const index = Math.max(0, about.colormaps.indexOf(centred(range) ? "coolwarm" : now("colormap")));
    return about.tables.subarray(index * 768, (index + 1) * 768);
  };
  /** The grid that patch and input size would make, where it differs from the one shown. */
  function proposed(pane) {
    if (pane.index) return null;
    const { model, grid, frame } = pane.shown, [size, patch] = sizes(model), next = gridOf(size, patch);
    const changed = next.rows !== grid.rows || next.cols !== grid.cols;
    if (!changed) return null;
    const share = [0, 1].map((axis) => frame.model[axis] / size[axis]); // new patches in pixels of the old input
    return { ...next, patch: patch.map((p, axis) => p * share[axis]) };
  }
  function sizes(model, settings = { image_size: now("image_size"), patch_size: now("patch_size") }) {
    const size = settings.image_size ?? model.size, patch = settings.patch_size;
    return [Array.isArray(size) ? size : [size, size], patch ? [patch, patch] : model.patch];
  }

  /** What the model never saw lies in the dark. */
  function dimOutside(context, frame, width, height) {
    const [x, y, wide, high] = seenBy(frame);
    if (x <= 0.5 && y <= 0.5 && x + wide >= width - 0.5 && y + high >= height - 0.5) return;
    context.fillStyle = DARK;
    context.beginPath();
    context.rect(0, 0, width, height);
    context.rect(x, y, wide, high);
    context.fill("evenodd");
  }
  function lines(context, frame, grid, unit) {
    context.beginPath();
    for (let r = 0; r <= grid.rows; r++) {
      const [x0, y] = toSource(frame, 0, r * grid.patch[0]), [x1] = toSource(frame, grid.cols * grid.patch[1], 0);
      context.moveTo(x0, y); context.lineTo(x1, y);
    }
    for (let c = 0; c <= grid.cols; c++) {
      const [x, y0] = toSource(frame, c * grid.patch[1], 0), [, y1] = toSource(frame, 0, grid.rows * grid.patch[0]);
      context.moveTo(x, y0); context.lineTo(x, y1);
    }
    context.lineWidth = unit;
    const finest = Math.min(grid.patch[0] / frame.scale[0], grid.patch[1] / frame.scale[1]) / unit; // px on the screen
    context.strokeStyle = `rgb(255 255 255 / ${Math.min(0.65, finest / 24)})`;
    context.stroke();
  }
  function outline(context, [x0, y0, x1, y1], unit, firm) {
    for (const [style, width] of [["#000", firm ? 6 : 4], ["#fff", firm ? 3 : 2]]) {
      context.strokeStyle = style;
      context.lineWidth = width * unit;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
  }
  /** The detector's boxes above the confidence; of another photograph, none. */
  function visible() {
    const known = found?.boxes && found.content === port.get("_content") && now("detector") !== null;
    return known ? found.boxes.filter(({ score }) => score > now("confidence")) : [];
  }
  function box(context, { box: [x0, y0, x1, y1], label, score }, unit, width) {
    outline(context, [x0, y0, x1, y1], unit, false);
    context.font = `${13 * unit}px sans-serif`;
    context.textBaseline = "top";
    const words = `${label} ${score.toFixed(2)}`, long = context.measureText(words).width + 8 * unit;
    const left = Math.max(0, Math.min(x0, width - long)), top = Math.max(0, y0);
    context.fillStyle = "rgb(0 0 0 / 0.75)";
    context.fillRect(left, top, long, 19 * unit);
    context.fillStyle = "#fff";
    context.fillText(words, left + 4 * unit, top + 3 * unit);
  }
  function colourBar(figure, [low, high]) {
    const key = `${low}:${high}:${now("colormap")}`;
    if (figure.bar.dataset.key === key) return;
    figure.bar.dataset.key = key;
    const ramp = coloured(Float32Array.from({ length: 256 }, (_, i) => i / 255), [0, 1], table([low, high]));
    figure.ramp.getContext("2d").putImageData(new ImageData(ramp, 256, 1), 0, 0);
    const at = ticks(low, high, 4), names = tickLabels(at);
    figure.numbers.replaceChildren(...at.map((v, i) => {
      const place = high > low ? (100 * (v - low)) / (high - low) : 0;
      return make("span", { textContent: names[i], style: `left: ${place}%; --shift: ${-place}%` });
    }));
    figure.bar.setAttribute("aria-label", `Colours run from ${low.toPrecision(3)} to ${high.toPrecision(3)}`);
  }
  function caption(shown) {
    if (!shown) return said().state === "error" ? "" : "The map comes when the model is ready.";
    if (shown.words) return shown.words;
    const { grid } = panes[0].shown, best = shown.values.indexOf(span(shown.values)[1]);
    const most = `highest ${shown.values[best].toPrecision(2)} at patch ${Math.floor(best / grid.cols)}, ${best % grid.cols}`;
    const hint = hover || shown.cell || shown.preview ? "" : " · point at a patch, click to pin it";
    const one = shown.row && !["max", "min"].includes(now("head"));
    const bits = one ? ` · entropy ${entropyBits(shown.row).toFixed(1)} of ${Math.log2(shown.row.length).toFixed(1)} bits` : "";
    const todo = page ? "no model runs in this page" : alone ? "no kernel" : Object.keys(drag).length ? "let go to run the model" : "the model is running";
    const end = shown.preview ? ` · this layer only; ${todo}` : proposed(panes[0]) ? ` · ${todo}` : "";
    return `${most}${bits}${hint}${end}`;
  }

  // -- the one place that writes controls

  function label() {
    const { state, words } = said(), working = { ready: "ready", computing: "computing", error: "" }[state];
    ui.status.dataset.state = state;
    say(ui.status, [working, words].filter(Boolean).join(" · "));
    if (!about) return;
    for (const control of ui.controls) control.show(now(control.name), panes[0].shown);
    const { shown } = panes[0];
    ui.unpin.disabled = now("query") === "cls";
    ui.minimum.parentNode.hidden = now("detector") === null;
    ui.two_stage.parentNode.hidden = page ? !closer : now("detector") === null;
    if (!shown) return;
    tokens(shown);
    measures(shown);
    prediction(shown);
    if (ui.atlas.open) showAtlas(shown);
    if (ui.every.open) { showMethods(shown); showRemoval(shown); }
    if (ui.compare.open) showCompare(shown);
    ui.call.textContent = code();
  }

  /** The Python that makes what is shown again. */
  function code() {
    const two = !ui.figures[1].box.hidden, shown = panes.filter((pane) => pane.shown && (two || !pane.index)).map((pane) => pane.shown);
    const names = ["heat", "other"].slice(0, shown.length), look = Object.entries(SAVED).filter(([name, usual]) => now(name) !== usual);
    const boxes = visible().length ? [`boxes = vislab.detect(image, detector=${python(now("detector"))}, confidence=${now("confidence")})`] : [];
    const what = names.length > 1 ? `[${names.join(", ")}]` : names[0];
    const how = [...(boxes.length ? ["detections=boxes"] : []), ...look.map(([name]) => `${name}=${python(now(name))}`)].map((one) => `, ${one}`);
    const drawn = look.filter(([name]) => ["opacity", "colormap"].includes(name)).map(([name]) => `${name}=${python(now(name))}`).join(", ");
    if (nearby(panes[0])) return ["import vislab", "", `image = ${shown[0].source}`, `seen = ${closer.call}`, `seen.overlay(${drawn})`].join("\n");
    const calls = shown.map(({ call }, i) => `${names[i]} = ${call}`);
    return ["import vislab", "", `image = ${shown[0].source}`, ...calls, ...boxes, `vislab.save("figure.pdf", ${what}${how.join("")})`].join("\n");
  }

  function tokens({ model }) {
    const [size, patch] = sizes(model), grid = gridOf(size, patch, model.prefix + model.suffix), n = grid.tokens;
    const extra = model.prefix + model.suffix;
    ui.count.replaceChildren(`${grid.rows} × ${grid.cols}${extra ? ` + ${extra}` : ""} = `, make("b", { textContent: whole(n) }), " tokens");
    const { heads, dim, layers: count } = model;
    const [flops, bytes] = [amount(attentionFlops(n, dim, count), "FLOP"), amount(mapBytes(n, heads, count), "B")];
    const time = page || !plain ? "" : `a forward takes about ${duration(forwardFlops(n, dim, count) / plain.rate)} here`;
    ui.cost.replaceChildren(`attention ${flops} · n² maps ${bytes}`, make("br"), time);
    chart(ui.chart, n, MARKS.map((side) => [side, gridOf([side, side], patch, extra).tokens]));
  }

  function measures({ settings, model, frame, run }) {
    if (plain?.run !== run || plain.layer !== settings.layer) return ui.measures.replaceChildren("…");
    const { own, measures: before } = plain;
    const sameInput = String(frame.model) === String(model.size); // else pixels of one are not those of the other
    const head = now("head"), of = (list) => (typeof head === "number" ? list.at(head) : list.reduce((a, b) => a + b) / list.length);
    const parts = [["entropy", 1, " bits"], ["distance", 0, " px"]].map(([name, digits, unit]) => {
      const value = of(own[name]), by = unit === " px" && !sameInput ? "" : change(value, of(before[name]), digits, unit);
      return [`${name} ${value.toFixed(digits)}${unit}`, by];
    });
    const layer = settings.layer === "mean" ? "mean of layers" : `layer ${layerIndex(panes[0].shown, settings.layer)}`;
    ui.measures.replaceChildren(`${layer}, patches' mean: `, ...parts.flatMap(([words, by], i) => [i ? " · " : "", words, by && " ", make("span", { className: "by", textContent: by })]));
  }

  function prediction({ classes, model, run }) {
    const before = plain?.run === run ? plain.classes : {};
    ui.knows.textContent = classes.length === 0 ? "This model names nothing: it has no classifier."
      : model.labels ? `Knows ${model.labels.length} classes only: ${model.labels.join(", ")}.` : "";
    ui.classes.replaceChildren(...classes.map(([name, p]) => {
      const by = before[name] === undefined ? "" : change(100 * p, 100 * before[name], 0);
      const bar = make("span", { className: "bar" }, make("span", { style: `width: ${100 * p}%` }));
      const short = name.split(",")[0];
      return make("li", { title: name }, make("span", { textContent: short }), bar, make("span", { className: "percent", textContent: `${(100 * p).toFixed(p < 0.095 ? 1 : 0)} %` }), make("span", { className: "by", textContent: by }));
    }));
  }

  function showAtlas(shown) {
    const run = shown.run;
    if (atlasRun !== run) {
      atlasRun = run;
      port.send({ kind: "atlas", run });
    }
    if (!atlas) return;
    if (atlas.refused) {
      ui.atlasWords.textContent = atlas.refused;
      ui.maps.dataset.key = "";
      return ui.maps.replaceChildren();
    }
    const { grid: [rows, cols], maps, entropy, distance } = atlas, [{ length: heads }] = entropy, chosen = [layerIndex(shown, now("layer")), now("head")];
    const key = `${atlas.run}:${now("colormap")}`;
    if (ui.maps.dataset.key !== key) {
      ui.maps.dataset.key = key;
      ui.maps.style.setProperty("--layers", entropy.length);
      const corner = make("span", { textContent: "head" });
      const names = entropy.map((_, l) => make("span", { className: "column", textContent: l ? l : "layer 0" }));
      const cells = entropy[0].flatMap((_, h) => [make("span", { className: "row", textContent: h }), ...entropy.map((_, l) => atlasCell(l, h))]);
      ui.maps.replaceChildren(corner, ...names, ...cells);
      ui.atlasWords.textContent = `${atlas.cls ? "What CLS attends to" : "What patches attend to on average"}, each map in its own colours. Below each: entropy in bits and mean attention distance in px of the input, means over ${atlas.queries} patches.`;
    }
    for (const cell of ui.maps.querySelectorAll("button")) {
      cell.setAttribute("aria-pressed", String(cell.dataset.at === chosen.join(":")));
    }
    function atlasCell(l, h) {
      const size = rows * cols, start = (l * heads + h) * size, values = maps.subarray(start, start + size);
      const canvas = make("canvas", { width: cols, height: rows });
      canvas.getContext("2d").putImageData(new ImageData(coloured(values, span(values), table()), cols, rows), 0, 0);
      canvas.style.aspectRatio = port.get("_source")[1] / port.get("_source")[0];
      const [bits, px] = [entropy[l][h].toFixed(1), distance[l][h].toFixed(0)];
      const open = () => commit({ method: "cls", layer: l, head: h });
      const button = make("button", { type: "button", onclick: open }, canvas, make("span", { textContent: bits }), make("span", { textContent: `${px} px` }));
      button.dataset.at = `${l}:${h}`;
      button.setAttribute("aria-label", `Layer ${l}, head ${h}: entropy ${bits} bits, distance ${px} pixels`);
      return button;
    }
  }

  /** Every method's map of the shown run, as far as they have come. */
  function showMethods(shown) {
    const asked = JSON.stringify([shown.settings.query, shown.settings.target]), current = (one) => one?.run === shown.run && JSON.stringify(one.asked) === asked;
    const of = (name) => (current(maps.get(name)) ? maps.get(name) : null);
    const names = [...methodNames(), "random"].filter((name) => !page || of(name)), come = names.map(of);
    const look = ["colormap", "normalise", "opacity", "smooth", "threshold", "method"].map(now);
    const key = JSON.stringify([shown.content, look, come.map((one) => one && [one.run, one.target, one.number])]);
    if (ui.gallery.dataset.key === key || !photo) return;
    ui.gallery.dataset.key = key;
    const given = come.filter((one) => one?.values && one.method !== "random"), shared = now("normalise") === "shared" && given.length > 0;
    const all = shared && endsOf(given.map((one) => one.values), given.some((one) => one.signed));
    const own = (one) => (one.method === "random" ? [0, 1] : all || (now("normalise") === "absolute" ? [-one.signed, 1] : endsOf([one.values], one.signed)));
    if (ui.gallery.dataset.names !== String(names)) { // else the buttons stay, and with them the focus
      ui.gallery.dataset.names = names;
      ui.gallery.replaceChildren(...names.map((name) => make("button", { type: "button", disabled: page || name === "random", onclick: () => commit({ method: name }) })));
    }
    names.forEach((name, i) => {
      const one = come[i], button = ui.gallery.children[i], words = one?.refused ?? `${methodName(name)}${one?.target ? ` for ${one.target}` : ""}${one ? "" : " …"}`;
      const worth = (one?.worth ?? []).map((area, k) => `${["deletion", "insertion"][k]} ${area.toFixed(2)}`);
      const { canvas, context } = photograph(320);
      if (one?.values) lay(context, shown, one.values, own(one), document.createElement("canvas"));
      button.replaceChildren(canvas, make("span", { textContent: words }), ...worth.map((area) => make("span", { className: "quiet", textContent: area })));
      button.setAttribute("aria-pressed", String(now("method") === name));
      button.setAttribute("aria-label", [words, ...worth].join(", "));
    });
  }
  /** The photograph on a canvas that is so many pixels wide; the context draws in source pixels. */
  function photograph(wide, canvas = make("canvas")) {
    const [height, width] = port.get("_source"), context = canvas.getContext("2d");
    Object.assign(canvas, { width: wide, height: Math.round((wide * height) / width) });
    context.scale(wide / width, wide / width);
    if (photo) context.drawImage(photo, 0, 0, width, height);
    return { canvas, context };
  }

  /** The photograph without the patches that are highest in the shown map, and what the model makes of it. */
  function showRemoval(shown) {
    const played = isOf(removal, panes[0]) && same(settingsOf(panes[0]), shown.settings, [...FORWARD, ...READ]) ? removal : null;
    const ready = Boolean(played?.filled), { context } = photograph(640, ui.without), { frame, grid } = shown;
    ui.play.disabled = ui.step.disabled = !ready;
    if (!ready) pause();
    ui.play.textContent = playing ? "pause" : "play";
    ui.fall.parentNode.hidden = page && !ready;
    if (!ready) {
      ui.fall.replaceChildren();
      ui.removed.textContent = played?.refused ?? (page ? "Taking patches away runs the model, which this page does not hold. It can be played for a map under which it was done in the Lab before the export." : "The model runs without more and more of the patches …");
      return;
    }
    const { deletion, share, target, areas, gone, filled } = played, last = deletion.length - 1, patches = grid.rows * grid.cols;
    step = Math.min(step, last);
    context.beginPath();
    gone.forEach((at, i) => {
      const [x0, y0, x1, y1] = boxOf(frame, grid, Math.floor(i / grid.cols), i % grid.cols);
      if (at <= step) context.rect(x0, y0, x1 - x0, y1 - y0);
    });
    context.save();
    context.clip();
    context.drawImage(filled, ...seenBy(frame));
    context.restore();
    dimOutside(context, frame, ...port.get("_source").toReversed());
    const words = `${Math.round(share[step] * patches)} of ${patches} patches gone: ${target.split(",")[0]} ${(100 * deletion[step]).toFixed(0)} %`;
    ui.removed.replaceChildren(words, make("br"), make("span", { className: "quiet", textContent: `area under the curve ${areas[0].toFixed(2)}, lower is better; put back in the same order ${areas[1].toFixed(2)}, higher is better` }));
    Object.assign(ui.step, { max: last, value: step });
    ui.step.setAttribute("aria-valuetext", words);
    fall(ui.fall, deletion, share, step);
    ui.fall.setAttribute("aria-label", `Probability of ${target} while patches are taken away: ${deletion.map((p) => `${(100 * p).toFixed(0)} %`).join(", ")}`);
  }
  function play() {
    if (playing) return pause();
    if (step >= Number(ui.step.max)) step = 0;
    playing = setInterval(() => {
      step++;
      if (step >= Number(ui.step.max)) pause();
      schedule();
    }, PACE);
  }
  function pause() {
    clearInterval(playing);
    playing = 0;
  }

  function showCompare({ model }) {
    const [name] = Object.keys(now("compare")), [size, patch] = sizes(model);
    const values = {
      method: methodNames(),
      layer: [...Array(model.layers).keys(), "mean"],
      head: ["mean", "max", "min", ...Array(model.heads).keys()],
      attention_scale: [0.1, 0.25, 0.5, 1, 2, 4],
      patch_size: dividing(size, ...PATCHES),
      image_size: multiples(patch[0], ...INPUTS).filter((_, i, all) => i % Math.ceil(all.length / 16) === 0),
      model: modelNames(),
      ...(takes("target") || name === "target" ? { target: targets(panes[0].shown) } : {}),
    };
    ui.compare.start = (what) => (what ? { [what]: values[what].find((v) => v !== now(what)) } : {});
    fill(ui.what, ["", ...Object.keys(values)], (v) => (v ? v.replace("_", " ") : "nothing"), name ?? "");
    ui.which.parentNode.hidden = !name;
    if (name) fill(ui.which, values[name].map((v) => JSON.stringify(v)), (v) => METHODS[JSON.parse(v)] ?? JSON.parse(v) ?? "the predicted class", JSON.stringify(now("compare")[name]));
  }
  const methodNames = () => Object.keys(about.methods).filter((m) => m !== "attention");
  /** Classes that can be asked for: all of a few, else the most probable; null is the predicted one. */
  const targets = ({ model, classes }) => [...new Set([null, ...(model.labels ?? classes.map(([name]) => name)), now("target")])];
  const modelNames = () => [...new Set(["embedded", now("model"), ...Object.keys(about.models)])].filter(Boolean);

  function schedule(only) {
    full ||= !only;
    pending ||= requestAnimationFrame(() => {
      const all = full;
      pending = 0;
      full = false;
      draw(all);
    });
  }
  function draw(all = true) {
    if (port.get("_source")?.length && ui.panes.clientWidth) paint(); // nowhere to be seen, nothing to paint
    if (all) label();
  }

  // -- controls

  ui.controls = [];
  /** A native input bound to a setting; read and show turn its value into the setting's and back. */
  function bind(node, name, { read = (v) => v, show, live = false } = {}) {
    const control = { name, node, show: show ?? ((value) => { node.value = value; }) };
    ui.controls.push(control);
    if (live) node.addEventListener("input", () => { drag[name] = read(node.value, control); schedule(); });
    node.addEventListener("change", () => commit({ [name]: read(node.value, control) }));
  }
  const options = (node, values, words = (v) => v) => (value) => fill(node, values(), words, value);
  bind(ui.image, "image", { show: options(ui.image, () => [...(about.samples.includes(port.get("image")) ? [] : [port.get("image")]), ...about.samples], (v) => v || "your photograph") });
  bind(ui.method, "method", { show: options(ui.method, () => [...methodNames(), ...(now("method") === "attention" ? ["attention"] : [])], methodName) });
  const own = "your own";
  ui.controls.push({ name: "model", show: options(ui.model, () => [...(now("model") ? [] : [""]), ...modelNames()], (v) => v || own) });
  ui.model.addEventListener("change", () => commit({ model: ui.model.value, layer: -1, head: "mean", patch_size: null, image_size: null }));
  bind(ui.target, "target", {
    read: (v) => JSON.parse(v),
    show: (value, shown) => {
      ui.target.parentNode.hidden = page || !takes("target");
      if (shown) fill(ui.target, targets(shown).map((v) => JSON.stringify(v)), (v) => JSON.parse(v) ?? "the predicted class", JSON.stringify(value ?? null));
    },
  });
  bind(ui.detector, "detector", {
    read: (v) => (v === "none" ? null : v),
    show: (v) => fill(ui.detector, [...new Set(["none", "embedded", v === "" ? own : v ?? "none"])], (name) => name, v === "" ? own : v ?? "none"),
  });
  bind(ui.colormap, "colormap", { show: options(ui.colormap, () => about.colormaps) });
  bind(ui.normalise, "normalise");
  bind(ui.head, "head", {
    read: (v) => (isNaN(v) ? v : Number(v)),
    show: (value, shown) => shown && fill(ui.head, ["mean", "max", "min", ...Array(shown.model.heads).keys()].map(String), (v) => (isNaN(v) ? `heads: ${v}` : `head ${v}`), String(typeof value === "number" && value < 0 ? value + shown.model.heads : value)),
  });
  for (const name of ["opacity", "threshold", "minimum"]) {
    const [node, setting] = [ui[name], name === "minimum" ? "confidence" : name];
    const count = () => (name === "minimum" && found?.boxes ? ` · ${boxCount(visible().length)}` : "");
    bind(node, setting, { read: Number, live: true, show: (v) => { node.value = v; ui.out[setting].textContent = `${Math.round(100 * v)} %${count()}`; } });
  }
  for (const name of ["smooth", "grid", "incoming", "before", "two_stage"]) {
    bind(ui[name], name, { read: () => ui[name].checked, show: (v) => { ui[name].checked = v; } });
  }
  bind(ui.scale, "attention_scale", {
    read: (v) => scaleAt(Number(v)), live: true,
    show: (value) => { ui.scale.value = scaleStep(value); ui.out.scale.textContent = `× ${value}`; ui.scale.setAttribute("aria-valuetext", `times ${value}`); },
  });
  bind(ui.layer, "layer", {
    read: Number, live: true,
    show: (value, shown) => {
      if (!shown) return;
      Object.assign(ui.layer, { max: shown.model.layers - 1, value: layerIndex(shown, value) });
      ui.out.layer.textContent = value === "mean" ? "mean" : `${layerIndex(shown, value)} of 0–${shown.model.layers - 1}`;
    },
  });
  const fits = {
    patch_size: ([size]) => dividing(size, ...PATCHES),
    image_size: ([, patch]) => multiples(patch[0], ...INPUTS),
  };
  for (const name of ["patch_size", "image_size"]) {
    const node = ui[name], is = (both) => both[name === "patch_size" ? 1 : 0][0];
    bind(node, name, {
      live: true,
      read: (raw) => {
        const both = sizes(panes[0].shown.model), to = snap(Number(raw), is(both), fits[name](both));
        const over = name === "patch_size" ? both[0][0] % raw : raw % both[1][0];
        const why = name === "patch_size" ? `${raw} px patches leave ${over} of ${both[0][0]} px over` : `${raw} px is no multiple of ${both[1][0]} px patches`;
        ui.why.textContent = over && Number(raw) !== to ? `${why}: ${to} px` : "";
        node.value = to;
        return to;
      },
      show: (value, shown) => {
        if (!shown) return;
        const both = sizes(shown.model);
        node.disabled = !shown.model.resizable;
        node.value = is(both);
        if (node.disabled) say(ui.why, `${shown.model.name} keeps its sizes.`);
        const side = both[0][0] === both[0][1] ? both[0][1] : both[0].join("×");
        ui.out[name].textContent = `${name === "patch_size" ? both[1][0] : side} px`;
      },
    });
    node.addEventListener("change", () => { if (!node.disabled) ui.why.textContent = ""; });
  }
  ui.what.addEventListener("change", () => commit({ compare: ui.compare.start(ui.what.value) }));
  ui.which.addEventListener("change", () => commit({ compare: { [ui.what.value]: JSON.parse(ui.which.value) } }));
  ui.every.addEventListener("toggle", () => { pause(); port.send({ kind: "methods", open: ui.every.open }); });
  ui.play.addEventListener("click", () => { play(); schedule(); });
  ui.step.addEventListener("input", () => { pause(); step = Number(ui.step.value); schedule(); });
  for (const section of [ui.atlas, ui.every, ui.compare]) section.addEventListener("toggle", () => schedule());
  ui.upload.addEventListener("change", async () => {
    const [file] = ui.upload.files;
    if (!file) return;
    const large = file.size > UPLOAD && `${file.name} has ${amount(file.size, "B")}, and a notebook takes ${amount(UPLOAD, "B")} at once: put the file beside the notebook, and open it with vislab.Lab(${JSON.stringify(file.name)})`;
    status = large ? { state: "error", words: large } : { state: "computing", words: `reading ${file.name}` };
    schedule();
    if (!large) port.send({ kind: "upload" }, undefined, [await file.arrayBuffer()]);
    ui.upload.value = "";
  });
  for (const button of ui.exports) {
    button.addEventListener("click", () => {
      exporting = true;
      status = { state: "computing", words: `writing ${button.textContent}` };
      schedule();
      port.send({ kind: "export", suffix: button.value });
    });
  }
  ui.copy.addEventListener("click", () => navigator.clipboard?.writeText(ui.call.textContent));
  ui.unpin.addEventListener("click", () => commit({ query: "cls" }));

  // -- pointing: hover tells nobody; a pin is a setting

  function pointAt(event) {
    const canvas = event.currentTarget, box = canvas.getBoundingClientRect(), [height, width] = port.get("_source");
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  }
  function pin(cell) {
    const { frame, grid } = panes[0].shown, [x0, y0, x1, y1] = boxOf(frame, grid, ...cell), [height, width] = port.get("_source");
    commit({ query: [Math.min(Math.max((x0 + x1) / 2, 0), width), Math.min(Math.max((y0 + y1) / 2, 0), height)] });
  }
  for (const { canvas } of ui.figures) {
    canvas.addEventListener("pointermove", (event) => {
      if (!panes[0].shown) return;
      hover = pointAt(event);
      schedule(true);
    });
    canvas.addEventListener("pointerleave", () => { hover = null; schedule(true); });
    canvas.addEventListener("click", (event) => {
      const { shown } = panes[0], at = shown && cellAt(shown.frame, shown.grid, ...pointAt(event));
      const old = shown && pinned() && cellAt(shown.frame, shown.grid, ...pinned());
      if (!at) return;
      if (String(at) === String(old)) commit({ query: "cls" });
      else pin(at);
    });
    canvas.addEventListener("keydown", (event) => {
      const { shown } = panes[0], by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!shown || (!by && event.key !== "Escape")) return;
      event.preventDefault();
      event.stopPropagation(); // else the notebook moves its cell selection
      hover = null;
      if (!by) return commit({ query: "cls" });
      const { rows, cols } = shown.grid, from = pinned() && cellAt(shown.frame, shown.grid, ...pinned());
      const [row, col] = from ? [from[0] + by[0], from[1] + by[1]] : [rows >> 1, cols >> 1];
      if (row >= 0 && row < rows && col >= 0 && col < cols) pin([row, col]);
    });
  }

  // -- what comes from Python

  const answers = {
    about: (message, [tables]) => {
      about = { ...message, tables: typed(tables, Uint8Array) };
      if (ui.every.open && !page) port.send({ kind: "methods", open: true }); // a view that opened since began folded
    },
    status: (message) => {
      status = message;
      exporting &&= message.state !== "error";
    },
    view: (message, [values]) => {
      const pane = panes[message.pane];
      if (message.run === null) { pane.shown = null; return; }
      if (message.content !== port.get("_content")) return; // of the photograph before this one
      pane.shown = { ...message, ...placed(message) };
      pane.values = typed(values, Float32Array);
      if (!message.pane) operands(pane.shown, layerIndex(pane.shown, now("layer")), false); // ready before the pointer comes
    },
    plain: (message) => { plain = message; },
    method: (message, [values]) => { maps.set(message.method, { ...message, number: came++, values: values && typed(values, Float32Array) }); },
    removal: (message, [gone, image]) => {
      const key = JSON.stringify(message);
      if (key === removal?.key) return; // told again
      pause();
      step = 0;
      removal?.filled?.close();
      const mine = removal = { ...message, key, gone: gone && typed(gone, Uint16Array) };
      if (image) createImageBitmap(new Blob([image])).then((picture) => {
        if (mine !== removal) return picture.close();
        mine.filled = picture;
        schedule();
      });
    },
    closer: (message, buffers) => {
      const crops = message.crops?.map((crop, i) => ({ ...placed(crop), signed: crop.signed, values: typed(buffers[i], Float32Array) }));
      closer = crops && { ...message, crops, signed: crops.some((crop) => crop.signed), values: crops.length ? crops.flatMap((crop) => [...crop.values]) : [0] };
    },
    boxes: (message) => { found = message; },
    layer: keepLayer,
    atlas: (message, [maps]) => { atlas = { ...message, maps: maps && typed(maps, Float32Array) }; },
    file: (message, [bytes]) => {
      if (!exporting) return; // another view of this lab asked for it
      exporting = false;
      const link = make("a", { href: URL.createObjectURL(new Blob([bytes])), download: message.name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      status = { state: "ready", words: `${message.name}, ${amount(bytes.byteLength, "B")}` };
    },
  };
  const heard = (message, buffers) => { answers[message.kind]?.(message, buffers ?? []); schedule(); };
  let drawing = 0;
  async function load() {
    const bytes = port.get("_photo"), mine = ++drawing;
    for (const pane of panes) if (pane.shown?.content !== port.get("_content")) pane.shown = null;
    photo?.close();
    photo = null;
    if (!bytes?.byteLength) return;
    const picture = await createImageBitmap(new Blob([bytes]));
    if (mine !== drawing) return picture.close();
    photo = picture;
    schedule();
  }
  const changed = () => schedule();
  const cut = () => { alone = true; schedule(); };
  port.on("msg:custom", heard);
  port.on("comm_live_update", cut); // said of a living widget, once its kernel is gone
  port.on("change", changed);
  port.on("change:_photo", load);
  const size = new ResizeObserver(changed);
  for (const node of [root, ui.panes]) size.observe(node);
  const ready = load().then(draw);
  port.send({ kind: "hello" });
  // For tests and benchmarks: the canvas leads to what the view holds.
  ui.canvas.lab = { port, draw, panes, layers, visible, heard, ready, ui };
  return {
    ready,
    dispose() {
      pause();
      cancelAnimationFrame(pending);
      size.disconnect();
      port.off("msg:custom", heard);
      port.off("comm_live_update", cut);
      port.off("change", changed);
      port.off("change:_photo", load);
      photo?.close();
      removal?.filled?.close();
      layers.clear();
    },
  };
}

/** Words that are read aloud when they are written: only where they differ. */
function say(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

/** A select's options, written anew only where they changed. */
function fill(node, values, words, value) {
  const key = JSON.stringify(values);
  if (node.dataset.key !== key) {
    node.dataset.key = key;
    node.replaceChildren(...values.map((v) => make("option", { value: v, textContent: words(v) })));
  }
  node.value = value;
}

/** n against n²: the parabola, where the marked input sizes stand on it, and where we are. */
function chart(svg, n, marks) {
  const most = Math.max(n, marks.at(-1)[1]), x = (t) => 4 + (t / most) * 212, y = (t) => 66 - (t / most) ** 2 * 60;
  const path = Array.from({ length: 41 }, (_, i) => `${i ? "L" : "M"}${x((i / 40) * most).toFixed(1)} ${y((i / 40) * most).toFixed(1)}`).join("");
  const dots = marks.map(([side, t]) => `<circle cx="${x(t)}" cy="${y(t)}" r="3"><title>${side} px: ${whole(t)} tokens</title></circle>`);
  svg.innerHTML = `<path d="M4 6V66H216" class="axis"/><path d="${path}"/>${dots.join("")}<circle cx="${x(n)}" cy="${y(n)}" r="5" class="here"/>`;
  svg.setAttribute("aria-label", `Attention grows with the square of the tokens. Now ${whole(n)}; ${marks.map(([side, t]) => `${side} pixels would make ${whole(t)}`).join(", ")}.`);
  const rows = marks.map(([side, t]) => [`${side} px`, whole(t), `× ${factor((t / n) ** 2)}`]);
  svg.nextElementSibling.replaceChildren(...[["input", "tokens", "cost n²"], ...rows].flat().map((words) => make("span", { textContent: words })));
}
/** A probability against the share of patches that are gone: all of it faintly, and as far as it is shown. */
function fall(svg, values, share, step) {
  const at = (i) => `${(4 + 312 * share[i]).toFixed(1)} ${(126 - 120 * values[i]).toFixed(1)}`;
  const path = (count) => `M${values.slice(0, count).map((_, i) => at(i)).join("L")}`, [x, y] = at(step).split(" ");
  svg.innerHTML = `<path d="M4 6V126H316" class="axis"/><path d="${path(values.length)}"/><path d="${path(step + 1)}" class="shown"/><circle cx="${x}" cy="${y}" r="5" class="here"/>`;
}
const python = (value) => ({ true: "True", false: "False" })[value] ?? JSON.stringify(value);
const boxCount = (n) => `${n || "no"} box${n === 1 ? "" : "es"}`;
const factor = (f) => (f >= 10 ? whole(f) : f >= 0.1 ? f.toFixed(1) : f.toPrecision(1));

/** The elements, named; nothing here knows what they are for. */
function build(root, page) {
  const ui = { out: {}, exports: [] };
  const field = (name, node, words, ...more) => {
    ui[name] = node;
    node.setAttribute("aria-label", words); // the label holds the value too, which is no part of the name
    return make("label", {}, make("span", { textContent: words }), node, ...more);
  };
  const select = () => make("select");
  const range = (min, max, step, more = {}) => make("input", { type: "range", min, max, step, ...more });
  const check = () => make("input", { type: "checkbox" });
  const slider = (name, words, node, key = name) => field(name, node, words, (ui.out[key] = make("output")));
  ui.figures = [0, 1].map(() => {
    const canvas = make("canvas", { tabIndex: 0, role: "application" });
    const name = make("b"), title = make("span"), ramp = make("canvas", { width: 256, height: 1 });
    const numbers = make("div", { className: "numbers" }), bar = make("div", { className: "colours", role: "img" }, ramp, numbers);
    const box = make("figure", {}, make("figcaption", {}, name, " ", title), canvas, bar);
    return { box, canvas, name, title, bar, ramp, numbers, layer: document.createElement("canvas") };
  });
  ui.canvas = ui.figures[0].canvas;
  ui.figures[1].box.hidden = true;
  ui.figures[1].canvas.tabIndex = -1;
  ui.figures[1].canvas.setAttribute("aria-hidden", "true");
  ui.panes = make("div", { className: "panes" }, ...ui.figures.map((f) => f.box));
  ui.caption = make("p", { className: "caption", role: "status" });
  ui.status = make("span", { className: "status", role: "status" });
  ui.unpin = make("button", { type: "button", textContent: "back to CLS", title: "Escape on the photograph" });
  ui.count = make("p", { className: "count" });
  ui.cost = make("p");
  ui.why = make("p", { className: "why", role: "status" });
  ui.measures = make("p");
  ui.classes = make("ol");
  ui.knows = make("p", { className: "quiet" });
  const upload = make("label", { className: "button", title: "a photograph of your own" }, "upload", (ui.upload = make("input", { type: "file", accept: "image/*" })));
  ui.upload.setAttribute("aria-label", "Upload a photograph");
  const drawing = (width, height) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("role", "img");
    return svg;
  };
  const section = (title, ...children) => make("section", {}, make("h3", { textContent: title }), ...children);
  const mark = make("datalist", { id: `vislab-one-${Math.random().toString(36).slice(2)}` }, make("option", { value: "0" }));
  const confidence = slider("minimum", "confidence", range(0.05, 0.95, 0.01), "confidence");
  const scale = slider("scale", "scale", range(-50, 30, 1, { list: mark.id }));
  const top = make("div", { className: "top" }, field("image", select(), "image"), upload, field("model", select(), "model"), field("detector", select(), "detector"), field("method", select(), "method"), field("target", select(), "for"), ui.status);
  const point = make("div", { className: "row" }, field("incoming", check(), "who attends to it"), field("grid", check(), "patch grid"), ui.unpin, confidence, field("two_stage", check(), "each box by itself"));
  const side = make("div", { className: "side" },
    section("Tokens", ui.count, slider("patch_size", "patch size", range(...PATCHES, 1)), slider("image_size", "input size", range(...INPUTS, 1)), ui.why, ui.cost, make("div", { className: "chart" }, (ui.chart = drawing(220, 72)), make("div", { className: "marks" }))),
    section("Attention", scale, mark, slider("layer", "layer", range(0, 11, 1)), field("head", select(), "head"), ui.measures, make("div", { className: "row" }, field("before", check(), "show × 1 beside it"))),
    section("Prediction", ui.classes, ui.knows));
  ui.maps = make("div", { className: "atlas" });
  ui.gallery = make("div", { className: "gallery" });
  ui.without = make("canvas", { role: "img" });
  ui.without.setAttribute("aria-label", "The photograph without the patches that are gone");
  ui.play = make("button", { type: "button", textContent: "play" });
  ui.removed = make("p");
  ui.fall = drawing(320, 132);
  const ends = (...words) => make("div", { className: "ends" }, ...words.map((one) => make("span", { textContent: one })));
  const removed = make("div", { className: "removal" }, ui.without, make("div", {},
    make("p", { textContent: "Take away the patches that are highest in the map above, and watch the class go. A patch that is gone shows the image blurred until its shapes are." }),
    make("div", { className: "row" }, ui.play, field("step", range(0, 28, 1), "patches gone")), ui.removed,
    make("div", { className: "fall" }, ends("100 %", "0 %"), ui.fall, make("span"), ends("no patch gone", "all gone"))));
  ui.atlasWords = make("p", { className: "quiet" });
  const fold = (name, words, ...children) => (ui[name] = make("details", {}, make("summary", { textContent: words }), ...children));
  ui.call = make("pre");
  ui.copy = make("button", { type: "button", textContent: "copy" });
  ui.exports = [".png", ".svg", ".pdf", ".npz", ".html"].map((suffix) => make("button", { type: "button", value: suffix, textContent: { ".npz": "NPZ, the data", ".html": "HTML, live without Python" }[suffix] ?? suffix.slice(1).toUpperCase() }));
  const more = make("div", { className: "more" },
    fold("display", "View", make("div", { className: "row" }, slider("opacity", "opacity", range(0, 1, 0.01)), field("colormap", select(), "colours"), field("normalise", select(), "range"), slider("threshold", "hide below", range(0, 1, 0.01)), field("smooth", check(), "smooth between patches"))),
    fold("atlas", "Head atlas", ui.atlasWords, ui.maps),
    fold("every", "All methods", removed, make("p", { className: "quiet", textContent: "The same image by every method, from the last layer and all heads. Below each, the area under the class's probability while patches are taken away in the map's order (deletion, lower is better) and put back (insertion, higher is better). A map worth believing beats a random order." }), ui.gallery),
    fold("compare", "Compare", make("div", { className: "row" }, field("what", select(), "the same, but another"), field("which", select(), "namely"))),
    fold("export", "Export", make("div", { className: "row" }, ...ui.exports), ui.call, ui.copy));
  fill(ui.normalise, ["map", "shared", "absolute"], (v) => ({ map: "of each map", shared: "shared by both", absolute: "0 to 1" })[v], "map");
  root.replaceChildren(top, make("div", { className: "main" }, make("div", {}, ui.panes, ui.caption, point), side), more);
  const kernel = [ui.image, ui.upload, ui.model, ui.detector, ui.method, ui.target, ui.before, ui.patch_size, ui.image_size].map((node) => node.parentNode);
  if (page) for (const node of [...kernel, ui.compare, ui.export]) node.hidden = true;
  return ui;
}

/** What an exported page holds, in place of a kernel. held: {state, messages, layers} as written by vislab. */
export function mount(root, { state, messages, layers }) {
  const listeners = {};
  const tell = (event, ...what) => { for (const listener of listeners[event] ?? []) listener(...what); };
  const port = {
    get: (name) => state[name] ?? null,
    set(name, value) {
      state[name] = value;
      // The rollout is held as it was exported; a layer or a head of one's own choice is attention.
      if (name === "layer" || name === "head") state.method = "cls";
    },
    save_changes: () => tell("change"),
    on: (event, listener) => { (listeners[event] ??= []).push(listener); },
    off: (event, listener) => { listeners[event] = (listeners[event] ?? []).filter((one) => one !== listener); },
    send(message) {
      const held = layers.find(([{ run, layer }]) => run === message.run && layer === message.layer);
      const lacking = [{ ...message, refused: `layer ${message.layer} of this picture is not in this page` }, []];
      const given = { hello: messages, layer: [held ?? lacking], atlas: [] }[message.kind] ?? [];
      for (const [content, buffers] of given) tell("msg:custom", { ...content, sums: message.sums }, buffers);
      if (message.kind === "hello") tell("msg:custom", { kind: "status", state: "ready", words: "without Python" }, []);
    },
  };
  return view(port, root, true);
}

export default {
  render({ model, el }) {
    return view(model, el).dispose;
  },
};
