// The Lab as a stage: the picture takes the window, with sliders beside it and text to be read across a room.

/** The button, and Escape, which leaves. */
export function bindPresent(store, ui) {
  const { root } = ui;
  const show = (presenting) => {
    if (presenting === store.state.presenting) return;
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
  root.addEventListener(
    "keydown",
    (event) => {
      if (!store.state.presenting || event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      show(false);
    },
    true,
  );
}

/** How high the pictures may be, px: what the window has beside all else in their column. */
export function roomAbove(ui) {
  const [first] = ui.figures;
  const others = [...ui.left.children].filter((node) => node !== ui.panes && node !== ui.told);
  const beside = others.reduce((sum, node) => sum + node.offsetHeight, 0);
  const own = first.box.offsetHeight - first.canvas.offsetHeight;
  return Math.max(120, ui.root.clientHeight - beside - own - 32);
}
