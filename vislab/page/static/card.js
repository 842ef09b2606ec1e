// A question on a card: options, a prediction first, then what is true.

import { make, say } from "../../lab/static/elements.js";
import { draw } from "./app.js";
import { FACTS } from "./facts.js";
import { told } from "./words.js";

/**
 * A card that asks what `ask` names. prefix: of its words. after: called once with whether the prediction was right and
 * with the fact. It is posed anew when photograph or settings change before it is answered.
 */
export function createCard(app, prefix, after) {
  const nodes = {
    say: make("p"),
    ask: make("p", { className: "ask" }),
    options: make("div", { className: "options" }),
  };
  nodes.shown = make("p", { className: "shown" });
  nodes.shown.setAttribute("aria-live", "polite");
  const card = { app, prefix, after, nodes, name: "", fact: null, posed: "", chosen: -1 };
  return card;
}

const keyOf = (app) => JSON.stringify([app.base?.key, app.base && app.run?.photo, app.picked, app.state.language]);

/** Ask something else. */
export function turnTo(card, name) {
  Object.assign(card, { name, fact: null, posed: "", chosen: -1 });
  card.nodes.options.replaceChildren();
  draw(card.app);
}

async function pose(card, key) {
  card.posed = key;
  card.nodes.options.replaceChildren();
  const { name } = card;
  const fact = await FACTS[name](card.app);
  if (card.posed !== key || card.name !== name) return;
  card.fact = fact;
  const buttons = (fact?.options ?? []).map((words, i) =>
    make("button", { type: "button", textContent: words, onclick: () => predict(card, i) }),
  );
  card.nodes.options.replaceChildren(...buttons);
  draw(card.app);
}

function predict(card, index) {
  if (card.chosen >= 0) return;
  card.chosen = index;
  card.after(index === card.fact.right, card.fact);
  draw(card.app);
}

/** Words of the card, and a new pose where one is due. */
export function paintCard(card) {
  const { app, nodes, fact, chosen, prefix, name } = card;
  const key = keyOf(app);
  if (app.base && !app.busy && !app.stream && chosen < 0 && card.posed !== key) pose(card, key);
  const values = { ...app.about.form, patch: app.state.patch, label: "…", ...fact?.values };
  say(nodes.say, told(app, `${prefix}_${name}_say`, values));
  say(nodes.ask, told(app, `${prefix}_${name}_ask`, values));
  [...nodes.options.children].forEach((button, i) => {
    button.disabled = chosen >= 0 && i !== fact.right && i !== chosen;
    button.classList.toggle("right", chosen >= 0 && i === fact.right);
    button.classList.toggle("wrong", chosen === i && i !== fact.right);
    button.setAttribute("aria-pressed", chosen === i);
  });
  const judged =
    chosen < 0 ? "" : told(app, chosen === fact.right ? "right" : "wrong", { option: fact.options[fact.right] });
  say(nodes.shown, chosen < 0 ? "" : `${judged} ${told(app, `${prefix}_${name}_shown`, values)}`);
}
