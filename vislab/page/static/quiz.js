// Ten questions about the photograph on the screen, whose answers are computed from it, and the result as text.

import { make, say } from "../../lab/static/elements.js";
import { change, complain, draw } from "./app.js";
import { createCard, paintCard, turnTo } from "./card.js";
import { told } from "./words.js";

export const QUESTIONS = [
  "tokens",
  "cost",
  "quarter",
  "knocked",
  "decided",
  "flat",
  "half",
  "least",
  "brightest",
  "coarse",
];

export function buildQuiz(app) {
  const quiz = {
    at: -1,
    results: [],
    count: make("p", { className: "count" }),
    text: make("textarea", { readOnly: true, hidden: true }),
  };
  quiz.card = createCard(app, "quiz", (right, fact) => {
    quiz.results[quiz.at] = {
      right,
      words: told(app, `quiz_${QUESTIONS[quiz.at]}_shown`, { ...app.about.form, ...fact.values }),
    };
  });
  quiz.next = make("button", { type: "button", onclick: () => turn(app, quiz, quiz.at + 1) });
  quiz.copy = make("button", { type: "button", hidden: true, onclick: () => copy(app, quiz) });
  app.painters.push(() => paintQuiz(app, quiz));
  const { nodes } = quiz.card;
  return make(
    "section",
    { className: "card" },
    quiz.count,
    nodes.say,
    nodes.ask,
    nodes.options,
    nodes.shown,
    quiz.text,
    make("p", { className: "row" }, quiz.next, quiz.copy),
  );
}

function turn(app, quiz, at) {
  if (at > QUESTIONS.length) Object.assign(quiz, { results: [] });
  quiz.at = at > QUESTIONS.length ? 0 : at;
  Object.assign(app, { panels: [], picking: null, marks: null, tool: "look" });
  if (quiz.at < QUESTIONS.length) turnTo(quiz.card, QUESTIONS[quiz.at]);
  draw(app);
}

/** The result as text: points, and line by line what is true. */
function resultOf(app, quiz) {
  const points = quiz.results.filter((one) => one?.right).length;
  const lines = quiz.results.map((one, i) => `${i + 1}. ${one.right ? "✓" : "✗"} ${one.words}`);
  return [
    told(app, "quizResult", {
      points,
      count: QUESTIONS.length,
      photo: app.state.photo,
      patch: app.state.patch,
      model: app.about.name,
    }),
    ...lines,
  ].join("\n");
}

async function copy(app, quiz) {
  try {
    await navigator.clipboard.writeText(quiz.text.value);
    complain(app, told(app, "quizCopied"));
  } catch {
    quiz.text.select();
    complain(app, told(app, "quizByHand"));
  }
}

function paintQuiz(app, quiz) {
  if (app.state.mode !== "quiz") return;
  if (quiz.at < 0) {
    change(app, { off: [], removed: [], keep: 1, query: -1 });
    turn(app, quiz, 0);
  }
  const over = quiz.at === QUESTIONS.length;
  const { nodes } = quiz.card;
  for (const node of Object.values(nodes)) node.hidden = over;
  quiz.text.hidden = quiz.copy.hidden = !over;
  say(quiz.copy, told(app, "quizCopy"));
  say(quiz.next, told(app, over ? "quizAgain" : "next"));
  quiz.next.disabled = !over && !quiz.results[quiz.at];
  quiz.text.setAttribute("aria-label", told(app, "mode_quiz"));
  if (over) {
    quiz.text.value = resultOf(app, quiz);
    say(quiz.count, quiz.text.value.split("\n")[0]);
    return;
  }
  say(quiz.count, told(app, "quizOf", { question: quiz.at + 1, count: QUESTIONS.length }));
  paintCard(quiz.card);
}
