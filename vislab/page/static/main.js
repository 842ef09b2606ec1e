// The page: opened, laid out, and listened to.

import { make, say } from "../../lab/static/elements.js";
import { fromAddress, MODES } from "./address.js";
import { change, complain, createApp, draw } from "./app.js";
import { fromBase64 } from "./base64.js";
import { buildBeside } from "./beside.js";
import { client, newest, taken } from "./client.js";
import { buildControls, buildWelcome, buildWords } from "./controls.js";
import { buildGame } from "./game.js";
import { buildGuided, STEPS } from "./guided.js";
import { buildDiagram } from "./lit.js";
import { buildAnswer, buildHeads, buildLayers } from "./panels.js";
import { buildPhotographs } from "./photographs.js";
import { buildPicture } from "./pointing.js";
import { buildQuiz } from "./quiz.js";
import { compute } from "./runs.js";
import { LANGUAGES, told } from "./words.js";

/** A module that uses SIMD: whether this browser can run the kernel is asked of it. */
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** What this browser lacks, or "". */
function lacking() {
  if (typeof WebAssembly === "undefined") return "WebAssembly";
  if (!WebAssembly.validate(SIMD)) return "SIMD";
  if (typeof DecompressionStream === "undefined") return "DecompressionStream";
  return typeof OffscreenCanvas === "undefined" ? "OffscreenCanvas" : "";
}

function buildTop(app) {
  const { ui } = app;
  ui.name = make("h1");
  ui.tabs = MODES.map((mode) => make("button", { type: "button", onclick: () => change(app, { mode }) }));
  const tabs = make("nav", {}, ...ui.tabs);
  ui.language = make("select", { onchange: () => change(app, { language: ui.language.value }) });
  for (const [value, words] of Object.entries(LANGUAGES))
    ui.language.append(make("option", { value, textContent: words.language }));
  ui.present = make("button", { type: "button", onclick: () => change(app, { present: !app.state.present }) });
  ui.link = make("button", { type: "button", onclick: () => copyLink(app) });
  ui.state = make("p", { className: "state" });
  ui.state.setAttribute("role", "status");
  ui.problem = make("p", { className: "problem" });
  ui.problem.setAttribute("role", "alert");
  app.painters.push(() => paintTop(app, tabs));
  return make(
    "header",
    {},
    ui.name,
    tabs,
    make("div", { className: "row" }, ui.language, ui.present, ui.link, ui.state),
    ui.problem,
  );
}

function paintTop(app, tabs) {
  const { ui, state } = app;
  document.documentElement.lang = state.language;
  document.body.classList.toggle("present", state.present);
  Object.assign(document.body.dataset, { mode: state.mode, view: state.view });
  say(ui.name, told(app, "name"));
  tabs.setAttribute("aria-label", told(app, "modes"));
  ui.language.setAttribute("aria-label", told(app, "languages"));
  ui.language.value = state.language;
  ui.tabs.forEach((tab, i) => {
    say(tab, told(app, `mode_${MODES[i]}`));
    tab.setAttribute("aria-pressed", MODES[i] === state.mode);
  });
  say(ui.present, told(app, "present"));
  ui.present.setAttribute("aria-pressed", state.present);
  say(ui.link, told(app, "link"));
  say(ui.state, told(app, app.busy ? "computing" : "idle"));
  ui.state.classList.toggle("busy", app.busy);
  say(ui.problem, app.message);
}

/** Text for the clipboard; where the browser keeps it shut, the text is shown to be copied by hand. */
async function copyLink(app) {
  try {
    await navigator.clipboard.writeText(location.href);
    const own = [app.state, app.state.other].some((one) => one && !app.about.samples.some((s) => s.name === one.photo));
    complain(app, told(app, own ? "linkOwn" : "linkCopied", { words: location.hash || "#" }));
  } catch {
    complain(app, location.href);
  }
}

function buildFoot(app) {
  const foot = make("footer", {});
  const [what, knows] = [make("p"), make("p")];
  foot.append(knows, what);
  app.painters.push(() => {
    const { about } = app;
    const labels = LANGUAGES[app.state.language].labels ?? {};
    const names = about.labels.slice(0, 12).map((name) => labels[name] ?? name);
    say(knows, told(app, "knows", { labels: names.join(", ") + (about.labels.length > 12 ? ", …" : "") }));
    say(what, told(app, "about", { ...about, ...about.form }));
  });
  return foot;
}

function layOut(app) {
  const [panes, compare] = buildBeside(app, buildPicture(app));
  const free = make("div", { className: "free" }, buildControls(app), compare, buildWords(app));
  const guided = buildGuided(app);
  const quiz = buildQuiz(app);
  const answer = buildAnswer(app);
  const side = make("div", { className: "side" }, guided, quiz, buildWelcome(app), answer, free);
  const picture = make("div", { className: "left" }, buildPhotographs(app), buildDiagram(app), panes);
  const layers = buildLayers(app);
  const heads = buildHeads(app);
  const game = buildGame(app);
  const below = make("div", { className: "below" }, heads, layers, game);
  app.painters.unshift(() => {
    const { mode } = app.state;
    [free.hidden, guided.hidden, quiz.hidden] = [mode !== "free", mode !== "guided", mode !== "quiz"];
    const shown = mode === "free" ? ["layers", "heads", "game"] : (app.panels ?? []);
    layers.hidden = !shown.includes("layers");
    heads.hidden = !shown.includes("heads");
    game.hidden = !shown.includes("game");
    answer.hidden = mode !== "free" && !shown.includes("answer");
  });
  app.element.replaceChildren(buildTop(app), make("div", { className: "desk" }, picture, side), below, buildFoot(app));
}

/** Let the browser draw and listen in between. */
const pause = () => new Promise((go) => setTimeout(go));

async function start() {
  const element = document.getElementById("page");
  const about = JSON.parse(document.getElementById("about").textContent);
  const state = fromAddress(location.hash, about, Object.keys(LANGUAGES), STEPS.length);
  const wanted = lacking();
  const worker = wanted ? {} : client();
  const app = createApp(about, state, worker, element);
  app.enter = newest(() => compute(app));
  if (wanted) {
    element.replaceChildren(
      make("p", { role: "alert", className: "problem", textContent: told(app, "noBrowser", { words: wanted }) }),
    );
    return;
  }
  say(document.getElementById("opening"), told(app, "opening"));
  app.table = fromBase64(about.colours);
  await pause();
  const [kernel, weights] = [await taken("vit.wasm"), await taken("weights.gz")];
  const moved = [kernel, weights].flatMap(({ pieces }) => (pieces ?? []).map(({ buffer }) => buffer));
  const opened = await app.ask({ kind: "open", kernel, weights, form: about.form }, moved);
  if (opened.kind !== "ready") {
    const words = told(app, opened.what === "memory" ? "noMemory" : "noModel", opened);
    element.replaceChildren(make("p", { role: "alert", className: "problem", textContent: words }));
    return;
  }
  await pause();
  layOut(app);
  await pause();
  addEventListener("resize", () => draw(app));
  addEventListener("hashchange", () =>
    change(app, fromAddress(location.hash, about, Object.keys(LANGUAGES), STEPS.length)),
  );
  await app.enter(true);
}

start();
