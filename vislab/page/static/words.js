// The words of the language that was chosen.

import { CHINESE } from "./chinese.js";
import { ENGLISH } from "./english.js";

export const LANGUAGES = { en: ENGLISH, zh: CHINESE };

/** The words of a name, with values in place of {names}. */
export function told(app, name, values = {}) {
  const text = LANGUAGES[app.state.language][name];
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key]).replaceAll(" %", "\u00a0%"); // on one line
}

/** A class, in the language that was chosen where it names it. */
export const labelOf = (app, index) =>
  LANGUAGES[app.state.language].labels?.[app.about.labels[index]] ?? app.about.labels[index];
