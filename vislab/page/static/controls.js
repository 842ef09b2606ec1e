// Photographs that are chosen, dropped, pasted or taken; sliders and menus for what the model is asked.

import { make, say } from "../../lab/static/elements.js";
import { VIEWS } from "./address.js";
import { cellsOf, change, complain, draw, own, sample } from "./app.js";
import { told } from "./words.js";

const CAMERA_PATCH = 32; // px: at 50 tokens a forward keeps up with the camera

/** A slider with its name and its value in words. read: state -> number, write: number -> fields of the state. */
function slider(app, name, options, read, write, words) {
  const input = make("input", { type: "range", ...options });
  const [label, value] = [make("span", { className: "name" }), make("output", { className: "number" })];
  input.addEventListener("input", () => change(app, write(+input.value)));
  app.painters.push(() => {
    say(label, told(app, name));
    if (document.activeElement !== input || +input.value !== read()) input.value = read();
    say(value, words(read()));
    input.setAttribute("aria-valuetext", value.textContent);
  });
  return make("label", { className: "slider" }, label, input, value);
}

/** Buttons of which one is pressed. */
function choices(app, name, values, read, write, words) {
  const legend = make("legend");
  const buttons = values.map((value) => make("button", { type: "button", onclick: () => change(app, write(value)) }));
  app.painters.push(() => {
    say(legend, told(app, name));
    buttons.forEach((button, i) => {
      say(button, words(values[i]));
      button.setAttribute("aria-pressed", values[i] === read());
    });
  });
  return make("fieldset", {}, legend, ...buttons);
}

export function buildPhotographs(app) {
  const { ui } = app;
  ui.thumbs = app.about.samples.map((one) => {
    const picture = make("img", { alt: "", width: 56, height: 42 });
    const button = make("button", { type: "button", className: "thumb", title: one.title, onclick: () => stopCamera(app) && change(app, { photo: one.name }) }, picture);
    button.setAttribute("aria-label", one.title);
    sample(app, one.name).then((blob) => {
      picture.src = URL.createObjectURL(blob);
    });
    return button;
  });
  const input = make("input", { type: "file", accept: "image/*", onchange: () => input.files[0] && fileChosen(app, input.files[0]) });
  ui.file = make("span");
  ui.camera = make("button", { type: "button", onclick: () => (app.stream ? stopCamera(app) : startCamera(app)) });
  app.painters.push(() => {
    say(ui.file, told(app, "ownFile"));
    say(ui.camera, told(app, app.stream ? "cameraStop" : "camera"));
    app.about.samples.forEach((one, i) => {
      ui.thumbs[i].setAttribute("aria-pressed", one.name === app.state.photo);
    });
  });
  takeDrops(app);
  const label = make("label", { className: "button" }, input, ui.file);
  return make("section", { className: "photos" }, ...ui.thumbs, label, ui.camera);
}

function fileChosen(app, file) {
  stopCamera(app);
  return own(app, file);
}

function takeDrops(app) {
  const files = (event) => event.dataTransfer ?? event.clipboardData;
  document.addEventListener("dragover", (event) => event.preventDefault());
  for (const kind of ["drop", "paste"]) {
    document.addEventListener(kind, (event) => {
      const file = files(event)?.files[0];
      if (!file) return;
      event.preventDefault();
      fileChosen(app, file);
    });
  }
}

export function stopCamera(app) {
  for (const track of app.stream?.getTracks() ?? []) track.stop();
  app.stream = null;
  draw(app);
  return true;
}

async function startCamera(app) {
  try {
    app.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 640 } } });
  } catch (error) {
    complain(app, told(app, "noCamera", { words: error.name ?? String(error) }));
    return;
  }
  complain(app, "");
  const video = make("video", { muted: true, playsInline: true, srcObject: app.stream });
  await video.play();
  change(app, { patch: CAMERA_PATCH, removed: [], keep: 1 });
  while (app.stream && app.stream === video.srcObject) {
    const [last, picture] = [document.documentElement.dataset.runs, await createImageBitmap(video)];
    if (!app.stream || !(await own(app, null, picture))) break;
    while (app.stream && document.documentElement.dataset.runs === last) await new Promise(requestAnimationFrame);
  }
  video.srcObject = null;
}

export function buildControls(app) {
  const { state, about } = app;
  const { layers, heads, sizes } = about.form;
  const patches = Object.keys(sizes).map(Number).sort((a, b) => b - a);
  const all = (value) => ({ scale: new Array(layers).fill(value) });
  const mean = () => state.scale.reduce((a, b) => a + b, 0) / layers;
  const each = state.scale.map((_, layer) =>
    slider(app, "layer", { min: 0, max: 3, step: 0.1 }, () => state.scale[layer], (v) => ({ scale: state.scale.map((old, i) => (i === layer ? v : old)) }), (v) => `${layer + 1}: ${v.toFixed(1)}`),
  );
  const summary = make("summary");
  const reset = make("button", { type: "button", onclick: () => change(app, { ...all(1), keep: 1, off: [], removed: [], patch: about.form.patch, query: -1, head: "mean", layer: layers - 1 }) });
  app.painters.push(() => {
    say(summary, told(app, "scaleEach"));
    say(reset, told(app, "reset"));
  });
  const headWords = (value) => (value === "mean" ? told(app, "mean") : String(value + 1));
  return make(
    "section",
    { className: "controls" },
    choices(app, "view", VIEWS, () => state.view, (view) => ({ view }), (view) => told(app, `view_${view}`)),
    slider(app, "layer", { min: 1, max: layers, step: 1 }, () => state.layer + 1, (v) => ({ layer: v - 1 }), String),
    choices(app, "head", ["mean", ...Array.from({ length: heads }, (_, i) => i)], () => state.head, (head) => ({ head }), headWords),
    slider(app, "patchSize", { min: 0, max: patches.length - 1, step: 1 }, () => patches.indexOf(state.patch), (v) => ({ patch: patches[v] }), (v) => told(app, "patchValue", { patch: patches[v], count: cellsOf(app, patches[v]) })),
    slider(app, "scale", { min: 0, max: 3, step: 0.1 }, mean, (v) => all(Math.round(v * 10) / 10), (v) => `× ${v.toFixed(1)}`),
    make("details", {}, summary, ...each),
    slider(app, "keep", { min: 5, max: 100, step: 5 }, () => Math.round(100 * state.keep), (v) => ({ keep: v / 100 }), (v) => `${v} %`),
    make("p", { className: "row" }, reset),
  );
}
