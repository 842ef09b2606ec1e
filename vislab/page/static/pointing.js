// Pointing at patches of the picture, by mouse, finger and keys.

import { cellAt } from "../../lab/static/places.js";
import { cellsOf, change, sideOf } from "./app.js";
import { buildFigure, isGone, labelPicture, paintPicture, placeOn } from "./view.js";

/**
 * A patch was picked: with the tool that looks, its attention is shown and stays; with the one that takes away, it goes or
 * returns. A guided step that shows the photograph alone goes on showing it.
 */
export function pick(app, cell) {
  if (cell < 0 || cell >= cellsOf(app)) return;
  if (app.picking) app.picking(cell);
  else if (app.tool === "remove") {
    const removed = app.state.removed.includes(cell)
      ? app.state.removed.filter((one) => one !== cell)
      : [...app.state.removed, cell];
    if (removed.length < cellsOf(app)) change(app, { removed });
  } else if (isGone(app, cell)) return;
  else if (app.state.view === "attention") change(app, { query: app.state.query === cell ? -1 : cell });
  else if (app.state.mode === "free") change(app, { query: cell, view: "attention" });
}

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function press(app, event) {
  const side = sideOf(app);
  if (event.key in ARROWS) {
    const [down, right] = ARROWS[event.key];
    const from = app.cell >= 0 ? app.cell : app.state.query;
    const [row, col] = from < 0 ? [side >> 1, side >> 1] : [Math.floor(from / side) + down, (from % side) + right];
    app.cell = Math.max(0, Math.min(side - 1, row)) * side + Math.max(0, Math.min(side - 1, col));
  } else if (event.key === "Enter" || event.key === " ") pick(app, app.cell);
  else if (event.key === "Escape") {
    app.cell = -1;
    change(app, { query: -1 });
  } else return;
  event.preventDefault();
  app.pointed();
}

/** The patch at a place of the window on a canvas, or -1. */
export function cellUnder(app, canvas, event) {
  const box = canvas.getBoundingClientRect();
  const [x, y] = [
    ((event.clientX - box.left) * canvas.width) / box.width,
    ((event.clientY - box.top) * canvas.height) / box.height,
  ];
  const { frame, grid } = placeOn(canvas, app);
  const cell = cellAt(frame, grid, x, y);
  return cell ? cell[0] * grid.cols + cell[1] : -1;
}

/**
 * With the tool that takes away, a pressed mouse takes the patches that it goes over, all of them or back; a finger
 * scrolls, and takes what it taps. -> whether the click that ends it was such a drag.
 */
function sweeping(app) {
  const { canvas } = app.ui;
  let [begin, taking, swept] = [-1, true, false];
  const sweep = (cell) => {
    if (cell < 0 || app.state.removed.includes(cell) === taking) return;
    if (!taking || app.state.removed.length + 1 < cellsOf(app)) pick(app, cell);
  };
  canvas.addEventListener("pointerdown", (event) => {
    begin = app.tool === "remove" && event.pointerType !== "touch" ? cellUnder(app, canvas, event) : -1;
    [taking, swept] = [!app.state.removed.includes(begin), false];
  });
  canvas.addEventListener("pointermove", (event) => {
    const cell = cellUnder(app, canvas, event);
    if (begin < 0 || !event.buttons || (cell === begin && !swept)) return;
    swept = true;
    sweep(begin);
    sweep(cell);
  });
  return () => swept && begin >= 0;
}

/** The picture that is pointed at. app.pointed: called where another patch is under the pointer. */
export function buildPicture(app) {
  const { ui } = app;
  buildFigure(app, ui, { tabIndex: 0, role: "application" });
  app.pointed = () => {
    paintPicture(app);
    labelPicture(app);
  };
  const point = (cell) => {
    if (cell === app.cell) return;
    app.cell = cell;
    app.pointed();
  };
  ui.canvas.addEventListener("pointermove", (event) => point(cellUnder(app, ui.canvas, event)));
  ui.canvas.addEventListener("pointerleave", () => point(-1));
  const sweeps = sweeping(app);
  ui.canvas.addEventListener("click", (event) => {
    if (sweeps()) return;
    app.cell = cellUnder(app, ui.canvas, event);
    pick(app, app.cell);
    app.pointed();
  });
  ui.canvas.addEventListener("keydown", (event) => press(app, event));
  app.painters.push(paintPicture, labelPicture);
  return ui.figure;
}
