// The words of an answer, to be pointed at: each shows its map at once, and tells nobody.

import { wordAfter } from "./asking.js";
import { DEFINITIONS } from "./definitions.js";
import { make, say } from "./elements.js";
import { answerOf, chosenWord, lookOf, sharesWords, tokensWords, wordLabel, wordShown } from "./looks.js";
import { commit, now } from "./settings.js";

/** The elements of an answer. */
export function makeChips(ui) {
  ui.answered = make("p", { className: "answered" });
  ui.chips = make("div", { className: "chips", role: "group", ariaLabel: "Words of the answer" });
  ui.parts = make("div", { className: "parts", ariaHidden: "true" });
  ui.lies = make("p", { className: "lies" });
  ui.tokens = make("p", { className: "tokens detail" });
  return [ui.answered, ui.chips];
}

/** Pointing, clicks and arrow keys, on the words and on the picture. */
export function bindChips(store, ui) {
  ui.count.after(ui.tokens);
  ui.fused.after(ui.lies, ui.parts);
  bindPointer(store, ui.chips);
  ui.chips.addEventListener("focusout", () => point(store, null));
  for (const node of [ui.chips, ui.canvas]) {
    node.addEventListener("keydown", (event) => {
      const answer = answerOf(store);
      if (!answer || event.ctrlKey || event.metaKey || event.altKey) return;
      const to = wordAfter(answer, chosenWord(answer, now(store, "word")), event.key);
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation(); // else the notebook moves its cell selection
      store.change({ pointed: null });
      commit(store, { word: to });
      if (node === ui.chips) ui.chips.children[chosenWord(answer, to)].focus();
    });
  }
}

/** Words that move below a pointer at rest are not pointed at: browsers tell of those too, and keys chose another. */
function bindPointer(store, chips) {
  let rest = ""; // where the pointer is on the screen
  chips.addEventListener("pointermove", ({ target, screenX, screenY }) => {
    const before = rest;
    rest = `${screenX},${screenY}`;
    const at = [...chips.children].indexOf(target);
    if (rest !== before && at >= 0) point(store, at);
  });
  chips.addEventListener("pointerleave", ({ screenX, screenY }) => {
    rest = `${screenX},${screenY}`;
    point(store, null);
  });
}

function point(store, pointed) {
  if (store.state.pointed !== pointed) store.change({ pointed });
}

/** Write an answer, its words, and how much of the shown one's attention lies on what. */
export function showChips(store, ui, shown) {
  const answer = answerOf(store);
  for (const name of ["answered", "chips", "parts", "lies", "tokens"]) ui[name].hidden = !answer;
  if (!answer) return;
  const { words, question, finished, limit } = answer;
  if (ui.chips.dataset.run !== String(answer.run)) {
    ui.chips.dataset.run = answer.run;
    ui.chips.replaceChildren(...words.map((word, at) => chipOf(store, word, at)));
  }
  const other = question !== now(store, "prompt");
  say(ui.answered, `${other ? "The answer to " : ""}“${question}”${finished ? "" : `, cut off after ${limit} tokens`}`);
  const [chosen, current] = [chosenWord(answer, now(store, "word")), wordShown(store, answer)];
  [...ui.chips.children].forEach((chip, at) => {
    const look = lookOf(store, shown, at);
    chip.setAttribute("aria-pressed", String(at === chosen));
    chip.classList.toggle("pointed", at === current);
    chip.tabIndex = at === chosen ? 0 : -1;
    chip.style.setProperty("--share", look ? look.shares[0] : 0);
    chip.title = store.state.presenting ? "" : DEFINITIONS.chips; // there it would cover them
    chip.ariaLabel = wordLabel(words[at], at, words.length, look?.shares);
  });
  showShares(store, ui, words[current], lookOf(store, shown, current));
  ui.count.replaceChildren(make("b", { textContent: answer.tokens.all.toLocaleString("en") }), " tokens");
  say(ui.tokens, tokensWords(answer));
}

function chipOf(store, word, at) {
  const chip = make("button", { type: "button", className: "chip", textContent: word });
  chip.addEventListener("click", () => {
    commit(store, { word: at });
    chip.focus();
  });
  return chip;
}

/** Three shares that sum to 1, in words and as a bar. */
function showShares(store, ui, word, look) {
  ui.parts.hidden = !look;
  if (!look) return say(ui.lies, `“${word}”: …`);
  say(ui.lies, sharesWords(store, word, look.shares));
  ui.parts.replaceChildren(...look.shares.map((part) => make("span", { style: `flex-grow: ${part}` })));
}
