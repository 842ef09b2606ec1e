// The prompt: a question of a model that answers in words, or a text that an image-text model looks for.

import { promptChanges, whyNot } from "./asking.js";
import { makeChips, showChips } from "./chips.js";
import { DEFINITIONS } from "./definitions.js";
import { make, say } from "./elements.js";
import { commit, now, statusOf } from "./settings.js";

const EMPTY = "The field is empty: write a question or a text first, then press ask.";
const SUCH_AS = "a text, such as: a church";
const NAMES = { question: "question", text: "looks for" };
const GAP = 4; // px between what stands here
// What only a model without words has.
const PICTURES = ["patch_size", "image_size", "keep", "merge", "scale", "incoming", "two_stage", "target", "before"];
const NUMBERS = ["why", "spentWhy", "cost", "measures", "dropping"];
const PICTURE_PARTS = ["unpin", "allBack", ...NUMBERS, "atlas", "lens", "every", "drawn", "diagram"];

/** The prompt with all that is said of it. */
export function makeSpoken(ui) {
  const id = `vislab-asks-${Math.random().toString(36).slice(2)}`;
  ui.examples = make("datalist", { id });
  ui.prompt = make("input", { type: "text", list: id, autocomplete: "off", enterKeyHint: "send" });
  ui.promptName = make("span");
  ui.ask = make("button", { type: "button", textContent: "ask" });
  ui.stop = make("button", { type: "button", textContent: "stop" });
  const label = make("label", {}, ui.promptName, ui.prompt);
  ui.promptRow = make("div", { className: "row prompt" }, label, ui.ask, ui.stop, ui.examples);
  ui.cannot = make("p", { className: "quiet" });
  ui.saying = make("p", { className: "saying", ariaLive: "off" });
  ui.limits = make("p", { className: "quiet limits detail" });
  // What is being said stands below the words of the answer before, which do not move for it.
  ui.spoken = make("div", { className: "spoken" }, ui.promptRow, ui.cannot, ...makeChips(ui), ui.saying, ui.limits);
  return ui.spoken;
}

export function bindPrompt(store, ui) {
  for (const name of PICTURES) ui[name].closest("label").classList.add("of-pictures");
  for (const name of PICTURE_PARTS) ui[name].classList.add("of-pictures");
  for (const name of ["classes", "take"]) ui[name].closest("section").classList.add("of-pictures");
  for (const node of [ui.chart.closest(".chart"), ui.what.closest(".row")]) node.classList.add("of-pictures");
  ui.ask.addEventListener("click", () => askNow(store, ui));
  ui.stop.addEventListener("click", () => store.port.send({ kind: "stop" }));
  ui.prompt.addEventListener("keydown", (event) => {
    event.stopPropagation(); // letters are no keys of the picture or of the notebook
    if (event.key === "Enter" && !event.isComposing) askNow(store, ui);
  });
}

/** What the field says is asked: a new prompt, or the same once more, after it was stopped or has failed. */
function askNow(store, ui) {
  const words = ui.prompt.value.trim();
  if (!words) return store.change({ asked: "prompt", status: { state: "error", words: EMPTY } });
  const changes = promptChanges(store, words);
  if (Object.entries(changes).every(([name, value]) => now(store, name) === value)) {
    store.change({ asked: "prompt", status: { state: "computing", words: "" } });
    return store.port.send({ kind: "ask" });
  }
  commit(store, changes);
}

/** Write the field, what is being said, and the answer. */
export function showPrompt(store, ui) {
  const { asks, panes, saying } = store.state;
  const { shown } = panes[0];
  const { takes: taken } = store.state;
  const cannot = store.page ? "" : whyNot(store);
  ui.root.classList.toggle("reads", taken === "question");
  ui.root.classList.toggle("waits", taken === "question" && !shown); // there is nothing to set yet
  ui.count.title = DEFINITIONS[taken === "question" ? "tokens" : "count"];
  ui.spoken.hidden = !taken && !cannot;
  ui.promptRow.hidden = store.page;
  showField(store, ui, taken);
  showCannot(store, ui, cannot);
  const question = taken === "question";
  ui.wordsAlone.hidden = !question;
  ui.ask.disabled = !taken;
  ui.stop.hidden = !question;
  ui.stop.disabled = statusOf(store).state !== "computing";
  ui.saying.hidden = !saying;
  say(ui.saying, saying ? `${saying.words.join(" ")} …` : "");
  ui.limits.hidden = !question || !asks?.limits;
  if (asks?.limits) {
    const first = asks.limits.split(/(?<=\.)\s/)[0];
    say(ui.limits, `${asks.model}: ${first}`);
    ui.limits.title = asks.words.length ? `${asks.limits} Its words: ${asks.words.join(" ")}.` : asks.limits;
  }
  const examples = question && asks ? asks.questions : [];
  if (ui.examples.dataset.key !== String(examples)) {
    ui.examples.dataset.key = examples;
    ui.examples.replaceChildren(...examples.map((value) => make("option", { value })));
  }
  showChips(store, ui, shown);
}

/** What is being written stays, unless another prompt was set meanwhile. */
function showField(store, ui, taken) {
  const [prompt, target] = ["prompt", "target"].map((name) => now(store, name));
  const value = (taken === "text" && typeof target === "string" ? target : prompt) ?? "";
  if (ui.prompt.dataset.shown !== value) {
    ui.prompt.dataset.shown = value;
    ui.prompt.value = value;
  }
  ui.prompt.disabled = !taken;
  ui.prompt.placeholder = taken === "text" ? SUCH_AS : (taken === "question" && store.state.asks?.questions[0]) || "";
  say(ui.promptName, NAMES[taken] ?? NAMES.question);
  ui.prompt.ariaLabel = taken === "text" ? "Text that is looked for" : "Question";
}

/** The reason, and the way to a model that answers. */
function showCannot(store, ui, cannot) {
  if (ui.cannot.dataset.key === cannot) return;
  ui.cannot.dataset.key = cannot;
  ui.cannot.hidden = !cannot;
  const [reader] = store.state.about?.readers ?? [];
  const changes = { model: reader, layer: -1, head: "mean", patch_size: null, image_size: null };
  const way = make("button", { type: "button", textContent: reader ?? "", onclick: () => commit(store, changes) });
  ui.cannot.replaceChildren(cannot, ...(cannot && reader ? [" One that does: ", way] : []));
}

/** How high the prompt is, px, but for what comes and goes with an answer: the picture makes no room for that. */
export const promptHigh = ({ spoken, saying, problem }) =>
  [saying, problem]
    .filter((node) => spoken.contains(node) && heightOf(node))
    .reduce((rest, node) => rest - heightOf(node) - GAP, heightOf(spoken));

const heightOf = (node) => node.getBoundingClientRect().height;
