// The removal game: the patches that are highest in the shown map go one after the other, and with them the class.

import { make } from "./elements.js";
import { dimOutside } from "./ink.js";
import { photographOn } from "./picture.js";
import { boxOf, seenBy } from "./places.js";
import { FORWARD, isOf, READ, same, settingsOf } from "./settings.js";

const PACE = 150; // ms a step
const NO_MODEL =
  "Taking patches away runs the model, which this page does not hold. It can be played for a map under which it was done in the Lab before the export.";

/** What was currentRemoval of the map that is shown; null where that is another. */
function currentRemoval(store) {
  const { removal, panes } = store.state;
  const { shown } = panes[0];
  const fresh = shown && same(settingsOf(store, panes[0]), shown.settings, [...FORWARD, ...READ]);
  return fresh && isOf(removal, panes[0]) ? removal : null;
}

/** Show how far it is. */
export function showRemoval(store, ui, { frame, grid }) {
  const { page } = store;
  const played = currentRemoval(store);
  const ready = Boolean(played?.filled);
  const { context } = photographOn(store, 640, ui.without);
  ui.play.disabled = ui.step.disabled = !ready;
  ui.play.textContent = store.state.playing && ready ? "pause" : "play";
  ui.fall.parentNode.hidden = page && !ready;
  if (!ready) {
    ui.fall.replaceChildren();
    const waits = page ? NO_MODEL : "The model runs without more and more of the patches …";
    ui.removed.textContent = played?.refused ?? waits;
    return;
  }
  const { deletion, share, target, areas } = played;
  const last = deletion.length - 1;
  const step = Math.min(store.state.step, last);
  takeAway(context, played, step, frame, grid);
  dimOutside(context, frame, ...store.port.get("_source").toReversed());
  const patches = grid.rows * grid.cols;
  const gone = Math.round(share[step] * patches);
  const words = `${gone} of ${patches} patches gone: ${target.split(",")[0]} ${(100 * deletion[step]).toFixed(0)} %`;
  const worth = `area under the curve ${areas[0].toFixed(2)}, lower is better; put back in the same order ${areas[1].toFixed(2)}, higher is better`;
  ui.removed.replaceChildren(words, make("br"), make("span", { className: "quiet", textContent: worth }));
  Object.assign(ui.step, { max: last, value: step });
  ui.step.setAttribute("aria-valuetext", words);
  drawFall(ui.fall, deletion, share, step);
  const falls = deletion.map((p) => `${(100 * p).toFixed(0)} %`).join(", ");
  ui.fall.setAttribute("aria-label", `Probability of ${target} while patches are taken away: ${falls}`);
}

/** A probability against the share of patches that are gone: all of it faintly, and as far as it is shown. */
function drawFall(svg, values, share, step) {
  const points = values.map((value, i) => `${(4 + 312 * share[i]).toFixed(1)} ${(126 - 120 * value).toFixed(1)}`);
  const path = (count) => `M${points.slice(0, count).join("L")}`;
  const [x, y] = points[step].split(" ");
  const lines = `<path d="${path(values.length)}"/><path d="${path(step + 1)}" class="shown"/>`;
  svg.innerHTML = `<path d="M4 6V126H316" class="axis"/>${lines}<circle cx="${x}" cy="${y}" r="5" class="here"/>`;
}

/** gone: for each patch the step at which it goes; filled: what the model sees where patches are gone. */
function takeAway(context, { gone, filled }, step, frame, grid) {
  context.beginPath();
  gone.forEach((at, i) => {
    const [x0, y0, x1, y1] = boxOf(frame, grid, Math.floor(i / grid.cols), i % grid.cols);
    if (at <= step) context.rect(x0, y0, x1 - x0, y1 - y0);
  });
  context.save();
  context.clip();
  context.drawImage(filled, ...seenBy(frame));
  context.restore();
}

/** The button and the slider; whatever makes the game another one stops it. */
export function bindRemoval(store, ui) {
  ui.play.addEventListener("click", () => (store.state.playing ? pause(store) : play(store)));
  ui.step.addEventListener("input", () => {
    pause(store);
    store.change({ step: Number(ui.step.value) });
  });
  store.subscribe(() => {
    if (store.state.playing && !currentRemoval(store)?.filled) pause(store);
  });
}

function play(store) {
  const last = () => store.state.removal.deletion.length - 1;
  const tick = () => {
    const step = store.state.step + 1;
    store.change({ step });
    if (step >= last()) pause(store);
  };
  store.change({ step: store.state.step >= last() ? 0 : store.state.step, playing: setInterval(tick, PACE) });
}

export function pause(store) {
  clearInterval(store.state.playing);
  store.change({ playing: 0 });
}
