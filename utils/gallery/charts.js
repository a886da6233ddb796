"use strict";

/* Elements, texts and the four curves; page.js uses them. Texts of the data become text nodes. */

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, and children: elements or texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function makeSvg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A name between texts, in its own direction. */
const named = (name) => make("bdi", {}, name);
/** The same for attributes, which take no elements. */
const isolated = (name) => `\u2068${name}\u2069`;
const grouped = (count) => count.toLocaleString("en-US");

const LEFT = 34, TOP = 8, WIDTH = 270, HEIGHT = 170;
const atX = (value) => LEFT + value * WIDTH;
const atY = (value) => TOP + (1 - value) * HEIGHT;

function linePath(xs, ys) {
  return xs.map((x, index) => `${index ? "L" : "M"}${atX(x).toFixed(1)} ${atY(ys[index]).toFixed(1)}`).join("");
}

function meanOf(rows) {
  return rows[0].map((_, point) => rows.reduce((sum, row) => sum + row[point], 0) / rows.length);
}

function axes(xLabel, yLabel) {
  const parts = [];
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    parts.push(makeSvg("path", { class: "axis", d: `M${atX(tick)} ${TOP}V${TOP + HEIGHT}M${LEFT} ${atY(tick)}H${LEFT + WIDTH}` }));
    parts.push(makeSvg("text", { x: atX(tick), y: TOP + HEIGHT + 13, "text-anchor": "middle" }, String(tick)));
    parts.push(makeSvg("text", { x: LEFT - 5, y: atY(tick) + 3, "text-anchor": "end" }, String(tick)));
  }
  parts.push(makeSvg("text", { x: atX(0.5), y: TOP + HEIGHT + 27, "text-anchor": "middle" }, xLabel));
  parts.push(makeSvg("text", { transform: `translate(9 ${atY(0.5)}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  return parts;
}

/** One figure: a thin line per class, the mean, and the chosen class on top. */
function curveFigure(curve, chosen) {
  const { title, xLabel, xs, rows, threshold, summary } = curve;
  const svg = makeSvg("svg", { viewBox: `0 0 ${LEFT + WIDTH + 10} ${TOP + HEIGHT + 32}`, role: "img", "aria-label": `${title}. ${summary}` });
  svg.append(...axes(xLabel, title.toLowerCase().startsWith("f1") ? "F1" : title.split(" ")[0].toLowerCase()));
  if (threshold !== undefined) svg.append(makeSvg("path", { class: "threshold", d: `M${atX(threshold)} ${TOP}V${TOP + HEIGHT}` }));
  if (rows.length > 1) for (const row of rows) svg.append(makeSvg("path", { class: "one", d: linePath(xs, row) }));
  svg.append(makeSvg("path", { class: "mean", d: linePath(xs, meanOf(rows)) }));
  if (chosen >= 0) svg.append(makeSvg("path", { class: "chosen", d: linePath(xs, rows[chosen]) }));
  return make("figure", {}, svg, make("figcaption", {}, make("b", {}, title), ` ${summary}`));
}

/** The four curves of the data, `chosen` the class to emphasize or null. */
function curveFigures(data, chosen) {
  const curves = data.curves;
  if (!curves.class_ids.length) return [make("p", { class: "empty" }, "No object is labelled: there are no curves.")];
  const f1 = curves.precision.map((row, index) => row.map((precision, point) => {
    const recall = curves.recall[index][point];
    return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
  }));
  const best = (rows) => {
    const mean = meanOf(rows), highest = Math.max(...mean);
    return `mean of the classes at most ${highest.toFixed(2)}, at score ${curves.scores[mean.indexOf(highest)].toFixed(2)}`;
  };
  const byScore = { xLabel: "score threshold", xs: curves.scores, threshold: data.threshold };
  const figures = [
    { title: "Precision and recall", xLabel: "recall", xs: curves.recall_points, rows: curves.precision_at_recall, summary: `mAP50 ${curves.AP50.toFixed(3)}` },
    { ...byScore, title: "F1", rows: f1, summary: best(f1) },
    { ...byScore, title: "Precision", rows: curves.precision, summary: best(curves.precision) },
    { ...byScore, title: "Recall", rows: curves.recall, summary: best(curves.recall) },
  ];
  return figures.map((curve) => curveFigure(curve, curves.class_ids.indexOf(chosen)));
}
