// @ts-check
/** The few things that every part of the page needs of the document. */

/**
 * Find an element that the page is known to hold.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function find(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no element "${id}".`);
  return /** @type {T} */ (found);
}

/**
 * Make an element of text alone: what stands in a patient's file never becomes markup.
 * @param {string} name
 * @param {string} [text]
 * @param {string} [style] Its class.
 * @returns {HTMLElement}
 */
export function make(name, text = "", style = "") {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (style) made.className = style;
  return made;
}

/**
 * Show one of the page's four scenes.
 * @param {"start" | "working" | "study" | "nothing"} scene
 */
export function showScene(scene) {
  for (const name of ["start", "working", "study", "nothing"]) find(name).hidden = name !== scene;
  document.body.dataset.scene = scene;
}

/** @param {string} sentence Said to a screen reader, politely. */
export function say(sentence) {
  find("live").textContent = sentence;
}

/** @param {string} sentence Shown until it is closed; an empty one takes the last away. */
export function warn(sentence) {
  find("alert").hidden = !sentence;
  find("alert-text").textContent = sentence;
}

/**
 * Make a canvas as sharp as the screen, empty it, and give its context in CSS pixels.
 * @param {HTMLCanvasElement} canvas
 * @returns {{context: CanvasRenderingContext2D, width: number, height: number}}
 */
export function sharpen(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

/**
 * Read a colour of the theme.
 * @param {string} name Such as `--bleed`.
 */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
