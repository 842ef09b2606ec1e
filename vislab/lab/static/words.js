// Numbers and names in words.

export const whole = (n) => Math.round(n).toLocaleString("en");

export function amount(n, unit) {
  const power = n > 0 ? Math.min(4, Math.max(0, Math.floor(Math.log10(n) / 3))) : 0;
  const v = n / 1000 ** power;
  return `${v >= 99.5 ? Math.round(v) : Number(v.toPrecision(2))} ${["", "k", "M", "G", "T"][power]}${unit}`;
}

export const duration = (s) => (s < 1 ? `${Number((s * 1000).toPrecision(2))} ms` : `${Number(s.toPrecision(2))} s`);

/** A change in words, with its sign in an arrow; nothing where it rounds to nothing. */
export function change(now, before, digits, unit = "") {
  const by = (now - before).toFixed(digits);
  return Number(by) === 0 ? "" : `${by > 0 ? "▲" : "▼"} ${by.replace("-", "")}${unit}`;
}

/** Tick labels with the decimals that tell them apart. */
export function tickLabels(values) {
  const step = values.length > 1 ? values[1] - values[0] : Math.abs(values[0]) || 1;
  if (step < 1e-4) return values.map((v) => v.toExponential(1).replaceAll("-", "−"));
  let decimals = Math.max(0, -Math.floor(Math.log10(step)));
  if (Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals++;
  return values.map((v) => v.toFixed(decimals).replace("-", "−"));
}

/** A share in per cent, never 0 or 100 where it is not. */
export function share(part) {
  const percent = 100 * part;
  if (percent > 0 && percent < 0.1) return "<\u00a00.1\u00a0%";
  if (percent < 100 && percent > 99.9) return ">\u00a099.9\u00a0%";
  return `${percent.toFixed(percent < 9.5 || percent > 90.5 ? 1 : 0).replace(/\.0$/, "")}\u00a0%`;
}

export const boxCount = (n) => `${n || "no"} box${n === 1 ? "" : "es"}`;

export const factor = (f) => (f >= 10 ? whole(f) : f >= 0.1 ? f.toFixed(1) : f.toPrecision(1));

/** A value as Python writes it. */
export const python = (value) => ({ true: "True", false: "False" })[value] ?? JSON.stringify(value);
