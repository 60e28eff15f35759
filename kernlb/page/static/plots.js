// Small pictures of numbers. Each says in words what it shows, and none says it by colour alone.

import { draw, set } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 24;

/** A line over time, its area filled. `update(values, words)`: oldest first, from 0 up. */
export function line(className = "") {
  const area = draw("path", { class: "area" });
  const stroke = draw("path", { class: "stroke", "vector-effect": "non-scaling-stroke" });
  const element = draw(
    "svg",
    {
      class: `plot ${className}`,
      role: "img",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
    },
    area,
    stroke,
  );
  const update = (values, words) => {
    set(element, "aria-label", words);
    const top = Math.max(...values, 1e-9);
    const step = WIDTH / Math.max(1, values.length - 1);
    const points = values.map((value, index) => {
      const y = HEIGHT - 1 - (value / top) * (HEIGHT - 2);
      return `${(index * step).toFixed(1)} ${y.toFixed(1)}`;
    });
    const path = points.length > 1 ? `M${points.join("L")}` : "";
    set(stroke, "d", path);
    set(area, "d", path && `${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
  };
  return { element, update };
}

const RESULTS = {
  "+": { class: "good", y: 6, height: 6, word: "good" },
  "-": { class: "bad", y: 0, height: 12, word: "bad" },
  ".": { class: "none", y: 10, height: 2, word: "counted for nothing" },
};
const SHOWN = 24;

/** The latest results of a check, oldest left: good ones are low, bad ones stand out. */
export function strip() {
  const element = draw("svg", { class: "strip", role: "img", width: SHOWN * 4, height: 12 });
  let drawn = null;
  const update = (results) => {
    if (results === drawn) return;
    drawn = results;
    const shown = [...results].slice(-SHOWN).map((each) => RESULTS[each] ?? RESULTS["."]);
    element.replaceChildren(
      ...shown.map((each, index) =>
        draw("rect", { class: each.class, x: index * 4, y: each.y, width: 3, height: each.height }),
      ),
    );
    const tally = Object.values(RESULTS)
      .map((kind) => [shown.filter((each) => each === kind).length, kind.word])
      .filter(([number]) => number > 0)
      .map(([number, word]) => `${number} ${word}`);
    const last = shown.at(-1);
    set(
      element,
      "aria-label",
      last ? `latest ${shown.length} checks: ${tally.join(", ")}; the last ${last.word}` : "no check yet",
    );
  };
  return { element, update };
}

const BAR = 72;

/** A bar for what was received, and a line where what was promised ends. Both 0..1 of `full`. */
export function bullet() {
  const track = draw("rect", { class: "track", width: BAR, height: 10 });
  const bar = draw("rect", { class: "bar", y: 2, height: 6 });
  const line = draw("rect", { class: "mark", width: 2, height: 10 });
  const element = draw(
    "svg",
    { class: "bullet", width: BAR, height: 10, "aria-hidden": "true" },
    track,
    bar,
    line,
  );
  const update = (received, promised, full) => {
    set(bar, "width", ((received ?? 0) / full) * (BAR - 2));
    set(line, "x", Math.min(1, promised / full) * (BAR - 2));
  };
  return { element, update };
}

/** How full something is, 0..1. */
export function meter() {
  const bar = draw("rect", { class: "bar", height: 8 });
  const track = draw("rect", { class: "track", width: 100, height: 8 });
  const element = draw("svg", { class: "meter", width: 100, height: 8, "aria-hidden": "true" }, track, bar);
  const update = (part) => {
    set(bar, "width", Math.min(1, part) * 100);
    set(element, "class", `meter ${part > 0.8 ? "warn" : ""}`);
  };
  return { element, update };
}

const SHAPES = {
  good: "M5 1a4 4 0 1 1 0 8a4 4 0 1 1 0-8z",
  warn: "M5 .8 9.6 9.2H.4z",
  bad: "M1.8.4 5 3.6 8.2.4l1.4 1.4L6.4 5l3.2 3.2-1.4 1.4L5 6.4 1.8 9.6.4 8.2 3.6 5 .4 1.8z",
  wait: "M5 1a4 4 0 0 1 0 8zM5 1a4 4 0 0 0 0 8v-1.2a2.8 2.8 0 0 1 0-5.6z",
  idle: "M1 4.2h8v1.6H1z",
};

/** The mark of a state, to stand before its word. */
export function mark() {
  const path = draw("path");
  const element = draw("svg", { width: 10, height: 10, viewBox: "0 0 10 10", "aria-hidden": "true" }, path);
  const update = (kind) => {
    set(element, "class", `state ${kind}`);
    set(path, "d", SHAPES[kind]);
  };
  return { element, update };
}

const BARS = { good: [0, 10], warn: [4, 6], wait: [4, 6], bad: [0, 10], idle: [8, 2] };
const MOST = 24;

/** One bar a server: whole for good, half for in between, hollow for bad, a dash for idle. */
export function servers() {
  const element = draw("svg", { class: "squares", height: 10, "aria-hidden": "true" });
  let drawn = null;
  const update = (kinds) => {
    const shown = kinds.slice(0, MOST);
    if (shown.join() === drawn) return;
    drawn = shown.join();
    set(element, "width", shown.length * 5);
    element.replaceChildren(
      ...shown.map((kind, index) => {
        const inset = kind === "bad" ? 0.5 : 0;
        const [y, height] = BARS[kind];
        return draw("rect", {
          class: kind,
          x: index * 5 + inset,
          y: y + inset,
          width: 4 - 2 * inset,
          height: height - 2 * inset,
        });
      }),
    );
  };
  return { element, update };
}
