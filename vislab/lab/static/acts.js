// Where in the model each control acts, and of what each number is: parts of the diagram, by the names of elements.

export const ACTS = {
  image: ["pixels"],
  upload: ["pixels"],
  image_size: ["pixels"],
  patch_size: ["patches"],
  grid: ["patches"],
  keep: ["tokens"],
  keep_by: ["tokens"],
  keep_at: ["layer"],
  gather: ["tokens"],
  merge: ["tokens"],
  drawFovea: ["patches"],
  onBox: ["patches"],
  fovea_patches: ["patches"],
  passing: ["tokens"],
  take: ["patches"],
  deletion: ["patches"],
  insertion: ["patches"],
  step: ["patches"],
  allBack: ["patches"],
  canvas: ["tokens"],
  count: ["tokens"],
  chart: ["tokens"],
  cost: ["qk", "softmax"],
  scale: ["qk"],
  before: ["qk"],
  layer: ["layer"],
  head: ["head"],
  atlas: ["layer", "head"],
  lens: ["layer", "class"],
  incoming: ["softmax"],
  measures: ["softmax"],
  unpin: ["cls"],
  target: ["class"],
  classes: ["class"],
  knows: ["class"],
};

/** A method reads attention, or asks for a class; of one layer or of all. asks: as Python tells of it. */
export const partsOfMethod = (asks) => [
  ...(asks.includes("layer") ? ["layer"] : []),
  asks.includes("target") ? "class" : "softmax",
];

/** The parts on which a control acts; none of one that acts on no part. */
export const partsOf = (name, asks = []) => (name === "method" ? partsOfMethod(asks) : (ACTS[name] ?? []));
