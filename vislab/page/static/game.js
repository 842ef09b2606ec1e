// The eraser game: the fewest patches that turn the decision, against the order of attention and against chance.

import { make, say } from "../../lab/static/elements.js";
import { cellsOf, change, draw } from "./app.js";
import { clsTo, largest, ranked, shuffled } from "./measures.js";
import { asked, classOf } from "./runs.js";
import { labelOf, told } from "./words.js";

const TRIES = 49; // forwards that a rival may take, at most

const roundOf = (app) => `${app.base?.key}`;

/** How many patches have to go in an order until another class comes first, in steps; null where none does. */
export async function turnedBy(app, order, stop = () => false) {
  const target = classOf(app);
  const step = Math.max(1, Math.round(order.length / TRIES));
  for (let count = step; count < order.length; count += step) {
    const run = await asked(app, { removed: new Set(order.slice(0, count)) });
    if (!run || stop()) return undefined;
    if (largest(run.shares) !== target) return count;
  }
  return null;
}

async function race(app) {
  const round = roundOf(app);
  const changed = () => roundOf(app) !== round;
  app.rivals = { round };
  draw(app);
  const count = cellsOf(app);
  app.rivals.attention = await turnedBy(app, ranked(clsTo(app.base, app.base.layers - 1)), changed);
  draw(app);
  app.rivals.chance = await turnedBy(app, shuffled(count, 1), changed);
  app.rivals.done = true;
  draw(app);
}

export function buildGame(app) {
  const { ui } = app;
  ui.gameTitle = make("h3");
  ui.gameHint = make("p");
  ui.gameState = make("p", { className: "said" });
  ui.gameState.setAttribute("aria-live", "polite");
  ui.tool = make("input", {
    type: "checkbox",
    onchange: () => {
      app.tool = ui.tool.checked ? "remove" : "look";
      draw(app);
    },
  });
  ui.toolWords = make("span");
  ui.again = make("button", { type: "button", onclick: () => change(app, { removed: [] }) });
  ui.race = make("button", { type: "button", onclick: () => race(app) });
  ui.raceState = make("p", { className: "said" });
  app.painters.push(paintGame);
  const buttons = make("p", { className: "row" }, ui.again, ui.race);
  return make(
    "section",
    { className: "game" },
    ui.gameTitle,
    ui.gameHint,
    make("label", {}, ui.tool, ui.toolWords),
    ui.gameState,
    buttons,
    ui.raceState,
  );
}

const countWords = (app, count) => told(app, count === null ? "never" : "patchesN", { count });

function paintGame(app) {
  const { ui, run, base, state } = app;
  say(ui.gameTitle, told(app, "gameTitle"));
  say(ui.toolWords, told(app, "gameTool"));
  say(ui.again, told(app, "gameAgain"));
  say(ui.race, told(app, "gameRace"));
  if (!run || !base) return;
  ui.tool.checked = app.tool === "remove";
  ui.canvas.classList.toggle("eraser", app.tool === "remove");
  const target = classOf(app);
  say(ui.gameHint, told(app, "gameHint", { label: labelOf(app, target) }));
  const gone = state.removed.length;
  const turned = gone > 0 && state.keep === 1 && largest(run.shares) !== target;
  const key = roundOf(app);
  if (turned && !(app.best.get(key) <= gone) && run.kept?.length === cellsOf(app) - gone) app.best.set(key, gone);
  const best = app.best.has(key) ? told(app, "gameBest", { count: app.best.get(key) }) : "";
  say(
    ui.gameState,
    `${told(app, turned ? "gameTurned" : "gameCount", { count: gone, label: labelOf(app, largest(run.shares)) })} ${best}`,
  );
  const { rivals } = app;
  ui.race.disabled = Boolean(rivals && rivals.round === key && !rivals.done);
  const mine = rivals?.round === key;
  const values = mine && { attention: countWords(app, rivals.attention), chance: countWords(app, rivals.chance) };
  say(ui.raceState, mine ? told(app, rivals.done ? "raceDone" : "raceGoes", values) : "");
}
