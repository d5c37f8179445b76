// @ts-check
/** Outlines of regions over the picture, with their areas. */

import { find, sharpen } from "./dom.js";
import { area } from "./words.js";

// The picture is black in both themes, and so are these.
const LIGHT = "#ffd9a0";
const DARK = "#000c";
const EDGE = 6;

/** @param {import("./words.js").Region[]} regions @param {import("./viewer.js").Viewer | null} viewer */
export function drawRegions(regions, viewer) {
  const canvas = /** @type {HTMLCanvasElement} */ (find("marks"));
  // Chromium was seen to go on showing the last outlines of a canvas that was only emptied.
  canvas.hidden = !regions.length || !viewer;
  if (!viewer || canvas.hidden) return;
  const { context, width } = sharpen(canvas);
  context.font = "600 12px system-ui, sans-serif";
  context.lineJoin = "round";
  for (const [number, region] of regions.entries()) {
    const corners = region.outline.map(([row, column]) => viewer.toScreen(column, row));
    if (!corners.length || corners.some((corner) => !corner)) continue;
    const points = /** @type {[number, number][]} */ (corners);
    context.beginPath();
    for (const [x, y] of points) context.lineTo(x, y);
    context.closePath();
    // Dark below light, so that it is seen on blood and on air.
    for (const [style, thick] of /** @type {[string, number][]} */ ([[DARK, 3.5], [LIGHT, 1.5]])) {
      context.strokeStyle = style;
      context.lineWidth = thick;
      context.stroke();
    }
    const text = `${number + 1}: ${area(region.area_mm2)}`;
    const wide = context.measureText(text).width;
    const right = Math.max(...points.map((point) => point[0])) + EDGE;
    const left = Math.min(...points.map((point) => point[0])) - EDGE - wide;
    const x = right + wide > width ? Math.max(0, left) : right;
    const y = points.reduce((sum, point) => sum + point[1], 0) / points.length;
    context.strokeStyle = DARK;
    context.lineWidth = 3;
    context.strokeText(text, x, y);
    context.fillStyle = LIGHT;
    context.fillText(text, x, y);
  }
}
