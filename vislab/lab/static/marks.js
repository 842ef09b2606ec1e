// The row for masks: what there is to press for them, and what they are, in words.

import { make, say } from "./elements.js";
import { isAnyMark, masksNow, now, visibleBoxes } from "./settings.js";
import { share } from "./words.js";

const FIRST = "Click the object; drag a box around it; Alt-click what is none of it. A click on a mark takes it away.";
const BY_KEYS = "With keys: arrows, Enter for a point, Alt+Enter for background, B for two corners of a box.";
const BACKGROUND = "What is marked is background alone: now click the object.";
const NAMED_MOST = 6; // masks that are named

export function makeMarks(ui) {
  const button = (textContent) => make("button", { type: "button", textContent });
  const tick = (name, words) => {
    ui[name] = make("input", { type: "checkbox" });
    ui[name].setAttribute("aria-label", words);
    return make("label", {}, make("span", { textContent: words }), ui[name]);
  };
  ui.segmented = make("span", { className: "told-of", textContent: "mask" });
  ui.mark = button("by mouse");
  ui.markBox = button("the next box");
  ui.noMarks = button("clear");
  const pair = make("span", { className: "pair" }, ui.mark, ui.markBox, ui.noMarks);
  const background = tick("background", "background");
  const row = make("div", { className: "row" }, ui.segmented, pair, background, tick("masked", "masks shown"));
  ui.maskWords = make("p", { className: "mask-words", role: "status" });
  ui.masks = make("div", { className: "masks detail", hidden: true }, row, ui.maskWords);
  return ui.masks;
}

/** Nothing where there is no segmenter; of one that makes its masks by itself, no marks. */
export function showMarks(store, ui) {
  const { masks, tool, alone } = store.state;
  const takes = Boolean(masks?.takes) && !store.page;
  ui.masks.hidden = !masks;
  for (const node of [ui.mark.parentNode, ui.background.parentNode]) node.hidden = !takes;
  for (const button of ui.maskExports) button.hidden = !masksNow(store)?.masks;
  if (!masks) return;
  ui.segmented.title = masks.segmenter;
  ui.mark.disabled = ui.background.disabled = alone;
  ui.mark.setAttribute("aria-pressed", String(tool === "mask"));
  ui.markBox.hidden = now(store, "detector") === null;
  ui.markBox.disabled = alone || visibleBoxes(store).length === 0;
  ui.noMarks.disabled = alone || !isAnyMark(store);
  ui.masked.disabled = !masksNow(store)?.masks;
  say(ui.maskWords, maskWords(store));
}

function maskWords(store) {
  const told = masksNow(store);
  const { tool } = store.state;
  if (!told) return "The masks of this photograph are on their way.";
  if (told.refused) return told.refused;
  if (told.masks)
    return told.masks.length
      ? told.masks.slice(0, NAMED_MOST).map(oneMask).join(" · ") + rest(told)
      : "No mask was found.";
  if (now(store, "outside") && told.marks.outside) return BACKGROUND;
  return tool === "mask" ? `${FIRST} ${BY_KEYS}` : "Press “by mouse” to point at an object.";

  function oneMask({ label, score, share: part }) {
    const own = told.scored.startsWith("share") ? "" : `, ${told.scored} ${score.toFixed(2)}`;
    return `${label}: ${share(part)}${told.masks.length === 1 ? " of the picture" : ""}${own}`;
  }
}

const rest = ({ masks }) => (masks.length > NAMED_MOST ? ` · and ${masks.length - NAMED_MOST} more` : "");
