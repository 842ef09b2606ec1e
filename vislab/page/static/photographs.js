// Photographs that are chosen, dropped, pasted or taken by a camera.

import { make, say } from "../../lab/static/elements.js";
import { change, complain, draw, frame, own, sample } from "./app.js";
import { told } from "./words.js";

const CAMERA_PATCH = 32; // px: at 50 tokens a forward keeps up with the camera

export function buildPhotographs(app) {
  const { ui } = app;
  ui.thumbs = app.about.samples.map((one) => {
    const picture = make("img", { alt: "", width: 56, height: 42 });
    const button = make(
      "button",
      {
        type: "button",
        className: "thumb",
        title: one.title,
        onclick: () => stopCamera(app) && change(app, { photo: one.name }),
      },
      picture,
    );
    button.setAttribute("aria-label", one.title);
    button.picture = picture;
    return button;
  });
  showThumbs(app);
  const input = make("input", {
    type: "file",
    accept: "image/*",
    onchange: () => input.files[0] && fileChosen(app, input.files[0]),
  });
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
  return make("section", { className: "photos" }, make("div", { className: "thumbs" }, ...ui.thumbs), label, ui.camera);
}

/** The samples, small: one after the other, so that the page goes on listening. */
async function showThumbs(app) {
  for (const [i, one] of app.about.samples.entries()) {
    app.ui.thumbs[i].picture.src = URL.createObjectURL(await sample(app, one.name));
    await new Promise((go) => setTimeout(go));
  }
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
    app.stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 480 } },
    });
  } catch (error) {
    complain(app, told(app, "noCamera", { words: error.name ?? String(error) }));
    return;
  }
  complain(app, "");
  const video = make("video", { muted: true, playsInline: true, srcObject: app.stream });
  await video.play();
  change(app, { patch: CAMERA_PATCH, removed: [], keep: 1 });
  let seen = null;
  while (app.stream && app.stream === video.srcObject) {
    const picture = await createImageBitmap(video); // while the last one is looked at
    await seen;
    if (app.stream) seen = frame(app, picture);
    else picture.close();
  }
  video.srcObject = null;
}
