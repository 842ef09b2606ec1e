// The Lab as a stage: the picture takes the window, with sliders beside it and text to be read across a room. The menus
// of image, model and method are unrolled over it, and roll up once something is chosen.

import { pinIsShown } from "./reading.js";
import { commit } from "./settings.js";

/** The buttons, and Escape, which does what is seen: closes the menus, or lets go of the pin that asks, or leaves. */
export function bindPresent(store, ui) {
  const { root } = ui;
  const unroll = (open) => {
    root.classList.toggle("choosing", open);
    ui.choose.setAttribute("aria-expanded", String(open));
  };
  const show = (presenting) => {
    if (presenting === store.state.presenting) return;
    unroll(false);
    root.classList.toggle("present", presenting);
    if (root.showPopover) {
      // Above all that the page has, whatever it is in.
      root.popover = presenting ? "manual" : null;
      if (presenting) root.showPopover();
    }
    store.change({ presenting });
    (presenting ? ui.canvas : ui.present).focus({ preventScroll: true });
    if (!presenting) root.scrollIntoView({ block: "nearest" });
  };
  ui.present.addEventListener("click", () => show(true));
  ui.leave.addEventListener("click", () => show(false));
  ui.choose.addEventListener("click", () => unroll(!root.classList.contains("choosing")));
  ui.top.addEventListener("change", () => unroll(false));
  root.addEventListener(
    "keydown",
    (event) => {
      if (!store.state.presenting || event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      if (!root.classList.contains("choosing")) return pinIsShown(store) ? unpin(store) : show(false);
      unroll(false);
      ui.choose.focus();
    },
    true,
  );
}

function unpin(store) {
  store.change({ hover: null });
  commit(store, { query: "cls" });
}

/** How high the pictures may be, px: what the window has beside all else in their column. */
export function roomAbove(ui) {
  const [first] = ui.figures;
  const others = [...ui.left.children].filter((node) => node !== ui.panes && node !== ui.telling);
  const beside = others.reduce((sum, node) => sum + node.offsetHeight, 0);
  const own = first.box.offsetHeight - first.canvas.offsetHeight;
  return Math.max(120, ui.root.clientHeight - beside - own - 32);
}
