// Patches taken away: by mouse, one after the other; or as a film, highest of the shown map first, and back again.

import { make } from "./elements.js";
import { currentRemoval, currentTrial, filmedNow, takenOf } from "./gone.js";
import { cellOver, pointAt } from "./pointing.js";
import { commit, now, pinnedPoint, statusOf } from "./settings.js";

const PACE = 150; // ms a step
const DONE = { deletion: "gone", insertion: "put back" };

/** Buttons, the slider and the pointer; a film ends once the map that it belongs to is another. */
export function bindRemoval(store, ui) {
  ui.take.addEventListener("click", () => chooseTool(store, store.state.tool === "take" ? "point" : "take"));
  ui.allBack.addEventListener("click", () => {
    endFilm(store);
    take(store, []);
    if (isKept(store)) commit(store, { keep: 1 });
  });
  for (const [name, node] of Object.entries(ui.films)) node.addEventListener("click", () => roll(store, name));
  ui.step.addEventListener("input", () => {
    pause(store);
    store.change({ step: Number(ui.step.value) });
  });
  bindTaking(store, ui.figures[0]);
  store.subscribe(() => {
    if (store.state.film && (store.state.filmOf !== filmedNow(store) || isInVain(store))) endFilm(store);
  });
}

/** Whether *keep* drops patches, and can be set. */
const isKept = (store) => now(store, "keep") < 1 && !store.page && !store.state.alone;

/** Whether there is no map to make the film of; the status line says why. */
const isInVain = (store) => statusOf(store).state === "error" && !currentRemoval(store);

/** What a click on the photograph does from now on. */
function chooseTool(store, tool) {
  endFilm(store);
  store.change({ tool, hover: null });
  if (tool === "take") take(store, takenOf(store)); // how the class stands before the first
}

/** A click takes a patch away or puts it back; a drag does so with all on its way. */
function bindTaking(store, figure) {
  const { canvas } = figure;
  let stroke = null; // whether patches go, and which there are
  const touch = (event) => {
    const cell = cellOver(store, pointAt(figure, event));
    if (!cell) return;
    const patch = cell[0] * store.state.panes[0].shown.grid.cols + cell[1];
    stroke ??= { goes: !takenOf(store).includes(patch) };
    if (takenOf(store).includes(patch) !== stroke.goes) keep(store, changed(takenOf(store), patch));
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (store.state.tool !== "take" || event.button !== 0 || !store.state.panes[0].shown) return;
    canvas.setPointerCapture(event.pointerId);
    touch(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (stroke) touch(event);
  });
  const end = () => {
    if (stroke) take(store, takenOf(store));
    stroke = null;
  };
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);
  canvas.addEventListener("keydown", (event) => {
    const cell = cellOver(store, pinnedPoint(store));
    if (event.key !== "Delete" || store.page || !cell) return;
    event.preventDefault();
    event.stopPropagation();
    const patch = cell[0] * store.state.panes[0].shown.grid.cols + cell[1];
    endFilm(store);
    store.change({ tool: "take" });
    take(store, changed(takenOf(store), patch));
  });
}

const changed = (patches, patch) =>
  patches.includes(patch) ? patches.filter((one) => one !== patch) : [...patches, patch];

const keep = (store, patches) => store.change({ taken: { run: store.state.panes[0].shown?.run, patches } });

/** These patches are gone, and what becomes of the class is asked for. */
function take(store, patches) {
  keep(store, patches);
  const { run } = store.state.taken;
  if (!store.page) store.port.send({ kind: "take", run, gone: [...patches].sort((a, b) => a - b) });
}

/** The same patches of the same photograph stay away in another run, where they are the same. before: what was shown. */
export function takeAgain(store, before) {
  const { panes, taken } = store.state;
  const { shown } = panes[0];
  const alike = before?.content === shown.content && String(before.grid.patch) === String(shown.grid.patch);
  const ours = before && taken.run === before.run && before.run !== shown.run && taken.patches.length > 0;
  if (alike && ours && String(before.frame.model) === String(shown.frame.model)) take(store, taken.patches);
}

/** Show a film from its beginning, or halt it; where it is not made yet, it begins once it is. */
function roll(store, film) {
  if (store.state.playing && store.state.film === film) return pause(store);
  pause(store);
  const held = Boolean(currentRemoval(store)?.gone);
  const status = held ? store.state.status : { state: "computing", words: "" };
  store.change({ film, filmOf: filmedNow(store), tool: "point", step: 0, status, asked: film });
  if (held) play(store);
  else store.port.send({ kind: "film", open: true });
}

/** Show from the beginning the film that was waited for. */
export function rollWaiting(store) {
  if (store.state.film && !store.state.playing && currentRemoval(store)?.gone) play(store);
}

function play(store) {
  const tick = () => {
    const step = store.state.step + 1;
    store.change({ step });
    if (step >= store.state.removal.deletion.length - 1) pause(store);
  };
  store.change({ step: 0, playing: setInterval(tick, PACE) });
}

/** No film any more, and none of the next map. */
function endFilm(store) {
  pause(store);
  if (!store.state.film) return;
  store.change({ film: null, filmOf: null });
  if (!store.page) store.port.send({ kind: "film", open: false });
}

export function pause(store) {
  clearInterval(store.state.playing);
  if (store.state.playing) store.change({ playing: 0 });
}

/** What there is to press, and how far it is; nothing of a model that answers in words. */
export function showRemoval(store, ui) {
  const { film, panes, playing, presenting, tool } = store.state;
  const { shown } = panes[0];
  const removal = currentRemoval(store);
  const held = Boolean(removal?.gone);
  const watched = store.page ? store.state.removal : shown?.classes?.length; // else there is nothing to watch
  ui.take.closest("section").hidden = !watched;
  ui.take.setAttribute("aria-pressed", String(tool === "take"));
  ui.canvas.dataset.tool = tool;
  for (const [name, node] of Object.entries(ui.films)) {
    node.disabled = store.page && !held;
    node.setAttribute("aria-pressed", String(film === name));
    node.textContent = `${playing && film === name ? "❚❚" : "▶"} ${name}`;
  }
  const taken = takenOf(store);
  ui.allBack.disabled = !film && !taken.length && !isKept(store);
  const home = presenting ? ui.game : ui.history; // presented, menus are rolled up
  if (ui.allBack.parentNode !== home) home.append(ui.allBack);
  ui.root.classList.toggle("game", Boolean(film) || tool === "take" || taken.length > 0);
  ui.root.classList.toggle("rolls", Boolean(film));
  ui.step.parentNode.hidden = !film || !held;
  const words = shown && !shown.model.reads ? removalWords(store, removal, taken, shown.grid) : "";
  ui.removed.ariaLive = playing ? "off" : "polite"; // a film is not read aloud step by step
  if (ui.removed.textContent !== words) ui.removed.textContent = words;
  ui.fell.hidden = !film || !held;
  if (!ui.fell.hidden) showFall(store, ui, removal, words);
}

function removalWords(store, removal, taken, grid) {
  const { film, tool } = store.state;
  if (film) return filmWords(store, removal, grid);
  if (tool === "take" || taken.length) return tookWords(store, taken, grid);
  return store.page && !removal?.gone ? "This page holds no film of this map." : "";
}

const percent = (p) => `${(100 * p).toFixed(p < 0.095 ? 1 : 0)} %`;

function filmWords({ state: { film, step } }, removal, grid) {
  if (removal?.refused) return removal.refused;
  if (!removal?.gone) return "The model runs without more and more of the patches …";
  const patches = grid.rows * grid.cols;
  const count = Math.round(removal.share[step] * patches);
  const watched = `${removal.target.split(",")[0]} ${percent(removal[film][step])}`;
  return `${count} of ${patches} patches ${DONE[film]}: ${watched}${instead(removal, removal.best[film][step])}`;
}

/** What the model says now, where that is not the class that is watched. */
const instead = ({ target }, [name, p]) => (name === target ? "" : `, now “${name.split(",")[0]}” ${percent(p)}`);

function tookWords(store, taken, grid) {
  const trial = currentTrial(store);
  if (trial?.refused) return trial.refused;
  const name = trial?.target.split(",")[0];
  if (!taken.length)
    return `Click a patch, or drag over several, to take them away${trial ? `: ${name} ${percent(trial.before)}` : ""}`;
  const end = trial
    ? `${name} ${percent(trial.before)} → ${percent(trial.now)}${instead(trial, trial.best)}`
    : "the model looks again …";
  return `${taken.length} of ${grid.rows * grid.cols} patches gone: ${end}`;
}

/** The probability against the share of patches: all of it faintly, and as far as it is shown. */
function showFall(store, ui, removal, words) {
  const { film, step } = store.state;
  const { share, areas } = removal;
  const values = removal[film];
  Object.assign(ui.step, { max: values.length - 1, value: step });
  ui.step.setAttribute("aria-valuetext", words);
  const area = film === "deletion" ? `${areas[0].toFixed(2)}, lower` : `${areas[1].toFixed(2)}, higher`;
  ui.area.textContent = `area under the curve ${area} is better`;
  ui.shares.replaceChildren(
    ...[`0 ${DONE[film]}`, `all ${removal.gone.length}`].map((textContent) => make("span", { textContent })),
  );
  const points = values.map((value, i) => `${(4 + 312 * share[i]).toFixed(1)} ${(126 - 120 * value).toFixed(1)}`);
  const path = (count) => `M${points.slice(0, count).join("L")}`;
  const [x, y] = points[step].split(" ");
  const lines = `<path d="${path(values.length)}"/><path d="${path(step + 1)}" class="shown"/>`;
  ui.fall.innerHTML = `<path d="M4 6V126H316" class="axis"/>${lines}<circle cx="${x}" cy="${y}" r="5" class="here"/>`;
  const falls = values.map((p) => `${(100 * p).toFixed(0)} %`).join(", ");
  ui.fall.setAttribute("aria-label", `Probability of ${removal.target} while patches are ${DONE[film]}: ${falls}`);
}
