// @ts-check
/** Letters at the edges of the images: which side of the patient is where. */

import { find } from "./dom.js";

/** @type {Record<string, string>} DICOM PS3.3 C.7.6.1.1.1. */
const OPPOSITE = { L: "R", R: "L", A: "P", P: "A", H: "F", F: "H" };
// Columns grow to the patient's left, rows to the back: the three planes are made for nothing else.
const USUAL = "LP";

/**
 * Show the letters of a series; none where nobody knows them.
 * @param {string | null} orientation
 */
export function showSides(orientation) {
  const [right, bottom] = orientation ?? "";
  const letters = { left: OPPOSITE[right], right, top: OPPOSITE[bottom], bottom };
  for (const [edge, letter] of Object.entries(letters)) find(`side-${edge}`).textContent = letter ?? "";
  find("side-unknown").hidden = orientation !== null;
}

/** @param {string | null} orientation */
export const liesAsUsual = (orientation) => orientation === USUAL;
