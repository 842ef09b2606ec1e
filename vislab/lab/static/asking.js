// What is asked in words: what makes a prompt, why there is none, and where keys lead among the words of an answer.

import { methodName, now, takes } from "./settings.js";

const ARROWS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 };

/** The settings that make words the prompt. */
export function promptChanges(store, words) {
  if (store.state.takes !== "text") return { prompt: words, word: null };
  const { methods } = store.state.panes[0].shown.model;
  const method = takes(store, "target") ? now(store, "method") : methods.find((one) => takes(store, "target", one));
  return { prompt: words, target: words, method };
}

/** Why nothing can be asked, where a prompt waits for another model; "" where there is no reason to tell. */
export function whyNot(store) {
  const { takes: taken, panes } = store.state;
  const name = panes[0].shown?.model.name;
  if (taken || !name || now(store, "prompt") === null) return "";
  return `${name} answers no questions.`;
}

/** Which word a key leads to: null is the one that is shown at first; undefined: it is no key of ours. */
export function wordAfter({ words }, from, key) {
  if (key === "Escape") return null;
  if (key === "Home") return 0;
  if (key === "End") return words.length - 1;
  const to = from + ARROWS[key];
  return Number.isNaN(to) ? undefined : Math.min(Math.max(to, 0), words.length - 1);
}

/** The method by which words are shown where a layer or a head is wanted. */
export const wordMethod = (store) => (store.state.takes === "question" ? "attention" : "cls");

/** As the menu calls it; that of a token is a word's where there are words. */
export const methodWords = (store, name) =>
  store.state.takes === "question" && name === "attention" ? "attention: one layer" : methodName(store, name);
