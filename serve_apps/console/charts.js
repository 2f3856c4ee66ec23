// Small charts as inline SVG: bars that stand on each other, lines with gaps, steps. Shapes only: what they say in words
// stands beside them, and in their label for those who do not see them.

import { make, svg } from "/console/dom.js";

const WIDTH = 600;
const HEIGHT = 100;

// A chart with its title, its highest value and its legend. `parts` are shapes; `series` are [class, name] of the legend.
export function figure(title, label, top, series, ...parts) {
  const head = make("figcaption", "", make("b", "", title), legend(series));
  const image = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", class: "chart" });
  image.setAttribute("aria-label", label);
  image.append(svg("path", { class: "grid", d: `M0 ${HEIGHT / 2}H${WIDTH}M0 .5H${WIDTH}M0 ${HEIGHT - 0.5}H${WIDTH}` }), ...parts);
  const axis = make("div", "axis", make("span", "", "10 min ago"), make("span", "", "now"));
  return make("figure", "", head, make("div", "plot", make("span", "top", top), image), axis);
}

function legend(series) {
  return make("span", "legend", ...series.map(([className, name]) => make("span", `key ${className}`, name)));
}

// One bar a value, drawn from `base` (what stands below it) up; both are as long as the time axis has steps.
export function bars(className, values, base, most) {
  const step = WIDTH / values.length;
  let d = "";
  values.forEach((value, index) => {
    if (!value) return;
    const [low, high] = [height(base[index], most), height(base[index] + value, most)];
    d += `M${(index * step + 0.5).toFixed(1)} ${low}V${high}h${(step - 1).toFixed(1)}V${low}z`;
  });
  return svg("path", { class: `bars ${className}`, d });
}

// A line through the middle of each step; nothing where there is no value, a dot where a value stands alone.
export function line(className, values, most) {
  const step = WIDTH / values.length;
  let d = "";
  values.forEach((value, index) => {
    if (value === null) return;
    const x = (index + 0.5) * step;
    const joins = index > 0 && values[index - 1] !== null;
    d += `${joins ? "L" : "M"}${x.toFixed(1)} ${height(value, most)}`;
    if (!joins && (values[index + 1] ?? null) === null) d += "h.1";
  });
  return svg("path", { class: `line ${className}`, d });
}

// Steps through points [{at, value}], oldest first, over the time from `from` to `until`; each holds until the next.
export function steps(className, points, from, until, most) {
  const x = (at) => (WIDTH * (Math.max(at, from) - from)) / (until - from);
  let d = "";
  for (const { at, value } of points) {
    const y = height(value, most);
    d += d ? `H${x(at).toFixed(1)}V${y}` : `M${x(at).toFixed(1)} ${y}`;
  }
  return svg("path", { class: `line ${className}`, d: d ? `${d}H${WIDTH}` : "" });
}

// A thin line from top to bottom at each time.
export function marks(className, times, from, until) {
  const d = times.map((at) => `M${((WIDTH * (at - from)) / (until - from)).toFixed(1)} 0V${HEIGHT}`).join("");
  return svg("path", { class: `line ${className}`, d });
}

function height(value, most) {
  return (HEIGHT - 2 - (HEIGHT - 4) * Math.min(1, value / (most || 1))).toFixed(1);
}
