// How many tokens there are and what attention over them takes, in numbers and on the parabola of n².

import { make, say } from "./elements.js";
import { defined } from "./help.js";
import { attentionFlops, forwardFlops, gridOf, mapBytes } from "./places.js";
import { sizesOf } from "./settings.js";
import { costFactor, isSpent, planOf, spentAsShown } from "./tokens.js";
import { amount, duration, factor, whole } from "./words.js";

const MARKS = [640, 1024, 2048]; // px, input sizes on the parabola

export function showTokens(store, ui, shown) {
  const { model } = shown;
  const [, patch] = sizesOf(store, model);
  const extra = model.prefix + model.suffix;
  const { rows, cols, counts, owner } = planOf(store, shown);
  if (!model.layers) {
    ui.count.replaceChildren(`${rows} × ${cols} squares of ${patch[0]} px`);
    ui.cost.replaceChildren("no attention");
    return ui.chart.replaceChildren();
  }
  const begins = owner ? `${whole(counts[0] - extra)}` : `${rows} × ${cols}`;
  const sum = `${begins}${extra ? ` + ${extra}` : ""} = `;
  const way = [...new Set(counts)];
  const some = way.length > 4 ? [way[0], "…"] : way.slice(0, -1);
  const spent = way.length > 1;
  const each = some.map((n) => `${n === "…" ? n : whole(n)} → `).join("");
  ui.count.replaceChildren(
    spent ? detailed(each) : sum,
    make("span", { className: "brief", textContent: spent ? `${sum}${whole(way[0])} → ` : "" }),
    make("b", { textContent: whole(counts.at(-1)) }),
    " tokens",
    detailed(spent ? ", layer by layer" : ""),
  );
  showCosts(store, ui, shown, counts);
  const marks = MARKS.map((side) => [side, gridOf([side, side], patch, extra).tokens]);
  drawCost(ui, Math.round(Math.sqrt(counts.reduce((all, n) => all + n * n, 0) / counts.length)), marks);
}

/** Not shown while the picture has the window. */
const detailed = (textContent) => make("span", { className: "detail", textContent });

/** What attention over those takes, and a forward; against every patch a token where they are spent. */
function showCosts(store, ui, shown, counts) {
  const { heads, dim, prefix, suffix } = shown.model;
  const { plain } = store.state;
  const of = (cost, list) => list.reduce((all, n) => all + cost(n), 0);
  const flopsOf = (n) => attentionFlops(n, dim, 1);
  const flops = of(flopsOf, counts);
  const { rows, cols } = planOf(store, shown);
  const all = flopsOf(rows * cols + prefix + suffix) * counts.length;
  const saved = isSpent(store) && flops < all ? `▼ ${Math.round(100 * (1 - flops / all))} %` : "";
  const forecast = () =>
    `a forward takes about ${duration(of((n) => forwardFlops(n, dim, 1), counts) / plain.rate)} here`;
  const time = store.page || !plain ? "" : forecast();
  const known = shown.seconds && spentAsShown(store, shown) && isSpent(store);
  const took = known ? `${time ? " · " : ""}it took ${duration(shown.seconds)}` : "";
  const maps = `n² maps ${amount(
    of((n) => mapBytes(n, heads, 1), counts),
    "B",
  )}`;
  const usual = factor(costFactor(store, shown));
  const more = saved || usual === "1.0" ? "" : `, × ${usual}`;
  const parts = { flops: `attention ${amount(flops, "FLOP")}${more}`, saved, n2: maps, time, took };
  const [perLayer, less, bytes, clock, stopped] = Object.entries(parts).map(([name, textContent]) =>
    defined(make("span", { textContent }), name),
  );
  less.className = "by";
  ui.cost.replaceChildren(perLayer, saved && " ", less, " · ", bytes, make("br"), clock, stopped);
}

/** n against n²: the parabola, where the marked input sizes stand on it, and where we are. marks: [[px, tokens], …]. */
function drawCost({ chart, marks: table, upward, along }, n, marks) {
  const most = marks.map(([, t]) => t).find((t) => t > 1.2 * n) ?? 1.2 * n; // so that the dot is seen to move
  const x = (t) => 4 + (t / most) * 212;
  const y = (t) => 66 - (t / most) ** 2 * 60;
  const steps = Array.from({ length: 41 }, (_, i) => (i / 40) * most);
  const path = steps.map((t, i) => `${i ? "L" : "M"}${x(t).toFixed(1)} ${y(t).toFixed(1)}`).join("");
  const seen = marks.filter(([, t]) => t <= most);
  const dots = seen.map(
    ([side, t]) => `<circle cx="${x(t)}" cy="${y(t)}" r="3"><title>${side} px: ${whole(t)} tokens</title></circle>`,
  );
  const here = `<circle cx="${x(n)}" cy="${y(n)}" r="5" class="here"/>`;
  chart.innerHTML = `<path d="M4 6V66H216" class="axis"/><path d="${path}"/>${dots.join("")}${here}`;
  const would = marks.map(([side, t]) => `${side} pixels would make ${whole(t)}`).join(", ");
  chart.setAttribute("aria-label", `Attention grows with the square of the tokens. Now ${whole(n)}; ${would}.`);
  const rows = marks.map(([side, t]) => [`${side} px`, whole(t), `× ${factor((t / n) ** 2)}`]);
  const cells = [["input", "tokens", "cost n²"], ...rows].flat();
  table.replaceChildren(...cells.map((words) => make("span", { textContent: words })));
  say(upward, `↑ cost, up to × ${factor((most / n) ** 2)}`);
  say(along, `${whole(Math.round(most))} tokens →`);
}
