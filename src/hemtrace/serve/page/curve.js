// @ts-check
/** The probability along the stack as a curve: which slice, how sure, above which threshold. */

import { colour, sharpen } from "./dom.js";

const EDGE = { left: 34, right: 12, top: 10, bottom: 20 };

/**
 * @typedef {object} Drawn
 * @property {(number | null)[]} scores Probabilities, in the order of the slices; null: the network gave none.
 * @property {boolean[]} [flagged] Which of them reach the threshold.
 * @property {number | null} [threshold] Of slices.
 * @property {number} [current] Place of the slice that is shown.
 */

/** @param {number} width @param {number} count */
const steps = (width, count) => (width - EDGE.left - EDGE.right) / Math.max(1, count - 1);

/**
 * Draw the curve on its canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {Drawn} drawn
 */
export function drawCurve(canvas, { scores, flagged = [], threshold = null, current = -1 }) {
  const { context, width, height } = sharpen(canvas);
  const step = steps(width, scores.length);
  const high = height - EDGE.top - EDGE.bottom;
  const x = (/** @type {number} */ place) => EDGE.left + place * step;
  const y = (/** @type {number} */ score) => EDGE.top + (1 - score) * high;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.lineWidth = 1;

  for (const tick of [0, 0.5, 1]) {
    line(context, [[EDGE.left, y(tick)], [width - EDGE.right, y(tick)]], colour("--line"));
    context.fillStyle = colour("--muted");
    context.textAlign = "right";
    context.fillText(tick.toFixed(1), EDGE.left - 7, y(tick));
  }
  if (!scores.length) return;

  // A slice without a number leaves no point; nothing is drawn as 0 that is not.
  const known = [...scores.entries()].filter(([, score]) => score !== null);
  const points = known.map(([place, score]) => [x(place), y(/** @type {number} */ (score))]);
  if (!points.length) return;
  context.beginPath();
  context.moveTo(points[0][0], y(0));
  for (const [across, down] of points) context.lineTo(across, down);
  context.lineTo(/** @type {number[]} */ (points.at(-1))[0], y(0));
  context.fillStyle = colour("--curve-fill");
  context.fill();
  line(context, points, colour("--curve"), 1.75);
  if (points.length === 1) {
    context.fillStyle = colour("--curve");
    context.fillRect(points[0][0] - 2, points[0][1] - 2, 4, 4);
  }

  if (threshold !== null) {
    context.setLineDash([5, 4]);
    line(context, [[EDGE.left, y(threshold)], [width - EDGE.right, y(threshold)]], colour("--bleed"));
    context.setLineDash([]);
    context.textAlign = "right";
    context.fillStyle = colour("--bleed");
    const above = y(threshold) > EDGE.top + 12;
    context.strokeStyle = colour("--panel");
    context.lineWidth = 4;
    context.strokeText("threshold of slices", width - EDGE.right, y(threshold) + (above ? -8 : 8));
    context.fillText("threshold of slices", width - EDGE.right, y(threshold) + (above ? -8 : 8));
  }
  // A flagged slice is a triangle, not only another colour.
  for (const [number, [across, down]] of points.entries()) {
    if (!flagged[known[number][0]]) continue;
    context.beginPath();
    context.moveTo(across, down - 5);
    context.lineTo(across + 4.5, down + 3.5);
    context.lineTo(across - 4.5, down + 3.5);
    context.closePath();
    context.fillStyle = colour("--bleed");
    context.fill();
  }
  if (current >= 0) {
    line(context, [[x(current), EDGE.top - 6], [x(current), height - EDGE.bottom + 3]], colour("--accent"), 1.5);
    const score = scores[current] ?? 0;
    context.beginPath();
    context.arc(x(current), y(score), 4.5, 0, 2 * Math.PI);
    context.fillStyle = colour("--panel");
    context.fill();
    context.strokeStyle = colour("--accent");
    context.lineWidth = 2;
    context.stroke();
  }
  if (current >= 0) {
    context.fillStyle = colour("--muted");
    const down = height - 8;
    context.textAlign = "left";
    context.fillText("lowest slice", EDGE.left, down);
    context.textAlign = "right";
    context.fillText("highest slice", width - EDGE.right, down);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number[][]} points
 * @param {string} style
 * @param {number} [thick]
 */
function line(context, points, style, thick = 1) {
  context.beginPath();
  for (const [across, down] of points) context.lineTo(across, down);
  context.strokeStyle = style;
  context.lineWidth = thick;
  context.lineJoin = "round";
  context.stroke();
}

/**
 * Say which slice is meant by a place on the canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {number} clientX
 * @param {number} count
 */
function placeAt(canvas, clientX, count) {
  const across = clientX - canvas.getBoundingClientRect().left - EDGE.left;
  return Math.min(count - 1, Math.max(0, Math.round(across / steps(canvas.clientWidth, count))));
}

/**
 * Let clicks and drags on the curve choose the slice.
 * @param {HTMLCanvasElement} canvas
 * @param {() => number} count
 * @param {(place: number) => void} go
 */
export function watchCurve(canvas, count, go) {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    go(placeAt(canvas, event.clientX, count()));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) go(placeAt(canvas, event.clientX, count()));
  });
}
