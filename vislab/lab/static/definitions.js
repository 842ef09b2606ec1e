// What each control and each number is, in one sentence: shown when it is pointed at.

const OF_TOKENS = {
  keep: "The share of the patches that is left in the end; those that CLS attends to least go a quarter, a half and three quarters of the way through the layers, unless “kept by” and “dropped”, which are there below 100 %, say otherwise.",
  keep_by:
    "What decides which patches go on, highest first: the attention of CLS, the length of the token, nearness to the centre, chance, or the values of the map as it is shown now.",
  keep_at: "The layer before which patches are dropped: all before one, or in three stages.",
  gather: "Patches that are dropped become one token, their mean, in place of none.",
  merge: "How many pairs of like tokens become one between any two layers.",
  drawFovea: "Draw a fovea on the photograph: small patches within it, large ones around, all in one forward.",
  onBox: "Put the fovea on the detector's most certain box, and with each further click on the next.",
  noFovea: "Take the fovea away.",
  fovea_patches: "The sides of the fovea's patches, from within outwards.",
  pass: "Show the tokens of each layer in turn, in the colours of the photograph: dropped ones fade, merged ones join.",
  passed: "Show the tokens of this layer.",
  mapAgain: "Show the map again (Escape on the photograph).",
  took: "How long the forward of the shown picture took.",
  saved: "How much less that is than with each of the smallest patches a token in every layer.",
  allOn: "Switch all heads on again.",
  lens: "What the model's head would say after each layer, and of each patch alone.",
};

const OF_MASKS = {
  mark: "Point at an object, and the segmenter makes its mask: a click is a point on it, a drag a box around it, a click on the line of a detector's box takes that box.",
  markBox: "Take the detector's most certain box, and with each further click the next.",
  noMarks: "Take all points and the box away.",
  background: "Clicks say what is no part of the object (Alt does so for one click).",
  masked: "Draw the masks on the photograph.",
};

const OF_WORDS = {
  prompt:
    "What is asked of the picture: a question that the model answers in words, or a text that it looks for; Enter asks.",
  ask: "Ask it; the same words again where the answer was stopped.",
  stop: "Leave the answer off; the one before stays.",
  saying: "What the model has said so far, word by word.",
  answered: "The question that these words answer.",
  chips:
    "The answer: point at a word to see where it looks, click to keep it, walk with the arrow keys; the line below a word is its share on the image.",
  lies: "How much of the shown word's attention lies on the image, on other words, and on the first token.",
  tokens: "What the language model reads: tokens of the image, in the views that it is cut into, and of words.",
};

export const DEFINITIONS = {
  ...OF_MASKS,
  ...OF_TOKENS,
  ...OF_WORDS,
  image: "The photograph that the model looks at: samples, and your own that you uploaded.",
  upload: "Choose a photograph of your own; one that is too large is shrunk here first.",
  model: "The network that looks; one marked with ↓ is downloaded first when you choose it.",
  detector:
    "The network that draws boxes around things (of the embedded one's first boxes two in three lie right); none draws no boxes.",
  method:
    "How it is asked where the model looks; attention shows one layer, the others combine several or ask for one class.",
  target: "The class that the map is about.",
  undo: "Take the last change back (Ctrl+Z).",
  redo: "Make the change again that was taken back (Ctrl+Shift+Z).",
  present:
    "Give the picture the whole window, with text that is read across a room; Escape lets go of a pinned patch, then leaves.",
  choose: "Choose image, model and method; Escape closes what it opens.",
  leave: "Leave (Escape, a second time where a patch is pinned).",
  status: "What the model is doing, and how long its last run took.",
  title: "What the colours show: who attends, in which layer, by which heads.",
  bar: "What the colours mean: the value of a patch.",
  signed: "What the colours mean: red speaks for the class, blue against it, and grey says nothing.",
  caption: "What is seen, and the patch with the highest value, counted in rows and columns from 0.",
  entropy: "Entropy: how spread attention is; 0 bits is a single patch, and the most is all tokens alike.",
  distance:
    "Distance: how far away, in pixels of the input, the patches lie that a patch attends to, on average; in brackets, where it would attend to all alike.",
  by: "How much more or less that is than at scale × 1 and the model's own sizes.",
  incoming: "Turns the question around: not what the patch attends to, but which patches attend to it.",
  grid: "Draw the borders of the patches.",
  unpin: "Ask for CLS again, the token that gathers what the class is read from (Escape on the photograph).",
  back: "Show again what was exported.",
  farther: "Zoom out.",
  whole: "Show the whole photograph.",
  closer: "Zoom in (Ctrl and the wheel, too; then drag the photograph).",
  minimum: "How sure the detector must be of a box for it to be shown.",
  two_stage: "Look at each box by itself, enlarged, and put the maps back in their places.",
  count: "Tokens: one for each patch of the grid, and one, CLS, that gathers what the class is read from.",
  patch_size: "The side of the squares that the input is cut into, each of which becomes one token.",
  image_size: "The side of the photograph as the model gets it, in pixels.",
  flops:
    "Operations that attention takes in all layers; they grow with the square of the tokens. × says how many times what the model was made for.",
  n2: "n² maps: what all attention of all heads and layers would take in memory, each token to each token.",
  time: "How long the model takes on this machine, by its last runs.",
  chart: "Tokens to the right, cost of attention upwards: twice the tokens cost four times as much.",
  scale:
    "Factor of the attention's logits: × 1 is the trained model, above it attention gets sharper, below it flatter.",
  layer: "Which layer's attention is shown: early ones on the left, the last on the right.",
  head: "Each layer attends several times at once, by heads: one of them, or their mean, maximum or minimum.",
  before: "Show the trained model, at scale × 1 and with all its heads, beside the changed one.",
  classes: "Probability of each class that the model knows.",
  knows: "All classes that the model can say.",
  take: "Click patches away on the photograph and watch the class; a patch that is gone shows the photograph blurred.",
  deletion:
    "Deletion: the highest patches of the map go first; if the class falls soon, the map is right about what counts.",
  insertion:
    "Insertion: the highest patches come back first; if the class rises soon, the map is right about what counts.",
  step: "How far the film is.",
  allBack: "Put all patches back: those that were clicked away, that a film took, or that “keep” drops.",
  removed: "How many patches are gone, and how probable the class is then.",
  diagram: "The model, from pixels to class: what is lit is where the control in hand acts.",
  fell: "Probability of the class upwards, patches to the right.",
  opacity: "How strongly the map covers the photograph.",
  blend:
    "How the map lies on the photograph: clear where it is weak, even, multiplied, as lines, or as a light in the dark.",
  colormap: "Which colours stand for low and high.",
  normalise: "Where the colours begin and end: at each map's own values, at those of both, or at 0 and 1.",
  shared:
    "Give both pictures the same range of colours, so that brighter is more; else each has its own, and only its pattern tells.",
  threshold: "Patches below this share of the colours show the photograph alone.",
  smooth: "Blur between the patches: nicer, but no finer than the patches are.",
  atlas: "Every head of every layer at a glance; click one to make it the picture, or switch it off.",
  every: "The same photograph by every method, with how well each map tells what counts.",
  display: "How the map is drawn.",
  compare: "A second picture, in which one setting is another.",
  what: "The setting in which the second picture is another.",
  which: "What that setting is in the second picture.",
  export: "Keep what you see as a file.",
  copy: "Copy the Python that makes this picture again.",
};

export const GALLERY =
  "The same image by every method, from the last layer and all heads. Below each, the area under the class's probability while patches are taken away in the map's order (deletion, lower is better) and put back (insertion, higher is better). A map worth believing beats a random order.";
export const WORDS_ALONE =
  "An answer stands alone: only models without words have a second picture. To compare, point at another word, or move layer and head.";
