// @ts-check
/** One series on the screen: slice, window, heat map, outlines, curve. */

import { getHeat, getVolume } from "./api.js";
import { drawCurve, watchCurve } from "./curve.js";
import { find, make, say } from "./dom.js";
import { watchGestures } from "./gestures.js";
import { drawRegions } from "./marks.js";
import { keepSlices } from "./nifti.js";
import { openPlain } from "./plain.js";
import { liesAsUsual, showSides } from "./sides.js";
import { showHere } from "./verdict.js";
import { hasWebGL2, openNiivue } from "./viewer.js";
import { STANDARD, area, capital, counted, labelWord, percent } from "./words.js";

const curve = /** @type {HTMLCanvasElement} */ (find("curve"));
const slider = /** @type {HTMLInputElement} */ (find("slice"));
const heatBox = /** @type {HTMLInputElement} */ (find("heat"));
const outlineBox = /** @type {HTMLInputElement} */ (find("outlines"));
const opacity = /** @type {HTMLInputElement} */ (find("opacity"));
const labelList = /** @type {HTMLSelectElement} */ (find("label"));
const planesBox = /** @type {HTMLInputElement} */ (find("planes"));

/** @type {import("./viewer.js").Viewer | null} */
let viewer = null;
/** @type {import("./words.js").Window[]} */
let windows = STANDARD;
let grey = { centre: 40, width: 80 };
/** @type {{id: string, study: import("./words.js").Study, series: import("./words.js").Series, threshold: number | null} | null} */
let shown = null;
let place = 0;
/** Fetched heat volumes of the series on screen, by label. @type {Map<string, Promise<ArrayBuffer>>} */
let heats = new Map();

const slices = () => shown?.series.slices ?? [];
/** Heat and outlines belong to the series that the verdict is of, and to a bleed. */
const mayPaint = () => shown?.study.verdict.answer === "bleed" && shown.series.chosen;
/** @type {(fault: unknown) => void} */
let onFault = console.error;

/**
 * Make the controls once.
 * @param {import("./words.js").Model} model
 * @param {(fault: unknown) => void} tellFault
 */
export function prepareReading(model, tellFault) {
  onFault = tellFault;
  const same = (/** @type {import("./words.js").Window} */ one) =>
    model.windows.some(({ centre, width }) => centre === one.centre && width === one.width);
  windows = [...model.windows, ...STANDARD.filter((one) => !same(one))];
  find("windows").replaceChildren(
    ...windows.map((one, number) => {
      const line = make("label", "", "chip");
      const button = document.createElement("input");
      Object.assign(button, { type: "radio", name: "window", value: String(number) });
      button.addEventListener("change", () => chooseWindow(number));
      line.append(button, make("span", capital(one.name)), make("small", `${one.centre}/${one.width}`));
      return line;
    }),
  );
  slider.addEventListener("input", () => goTo(Number(slider.value) - 1));
  watchCurve(curve, () => slices().length, (next) => goTo(next));
  watchGestures(find("screen"), {
    scroll: (by) => goTo(place + by),
    grey: (across, down) => setWindow(grey.centre + down, Math.max(2, grey.width + 2 * across)),
    move: (by) => viewer?.move(by),
    reset: resetView,
  });
  heatBox.addEventListener("change", paintHeat);
  labelList.addEventListener("change", paintHeat);
  outlineBox.addEventListener("change", drawMarks);
  opacity.addEventListener("input", () => viewer?.setOpacity(Number(opacity.value) / 100));
  planesBox.addEventListener("change", showPlanes);
  find("reset").addEventListener("click", resetView);
  document.addEventListener("theme", () => shown && drawAll());
  new ResizeObserver(() => shown && drawAll()).observe(curve);
}

async function openViewer() {
  if (viewer) return viewer;
  let lacks = hasWebGL2() ? "" : "This browser has no WebGL2";
  if (!lacks)
    try {
      viewer = await openNiivue(find("film"), drawMarks);
    } catch {
      lacks = "The viewer niivue could not be started";
    }
  viewer ??= openPlain(find("film"), drawMarks);
  find("plain-note").hidden = !lacks;
  find("plain-note").textContent = `${lacks}: slices are shown on a plain canvas, without the view in three planes.`;
  return viewer;
}

/** Show the stack in three planes or in one, as its box says. */
function showPlanes() {
  find("screen").classList.toggle("in-planes", planesBox.checked);
  viewer?.setPlanes(planesBox.checked);
  drawMarks();
}

/** Offer three planes where their letters would be right. */
function offerPlanes() {
  const offered = !!viewer?.hasPlanes && !!shown && liesAsUsual(shown.series.orientation);
  find("planes-line").hidden = !offered;
  planesBox.disabled = !offered; // for the key too
  planesBox.checked &&= offered;
  showPlanes();
}

/**
 * Show a series, or the same one at another operating point.
 * @param {string} id
 * @param {import("./words.js").Study} study
 * @param {import("./words.js").Series} series
 * @param {number | null} threshold Of slices, where it is known.
 */
export async function showSeries(id, study, series, threshold) {
  const old = shown;
  shown = { id, study, series, threshold };
  const same = old?.id === id && old.series.number === series.number;
  const scores = series.slices.map(({ probabilities }) => probabilities.any ?? 0);
  slider.max = String(series.slices.length);
  if (!same) {
    heats = new Map();
    const surest = scores.indexOf(Math.max(...scores));
    place = study.verdict.answer === "bleed" ? surest : Math.floor(scores.length / 2);
    heatBox.checked = true;
  }
  offerLabels();
  showSides(series.orientation);
  drawAll();
  if (!same) {
    find("screen-wait").hidden = false;
    delete find("screen").dataset.shown;
    try {
      const [open, volume] = await Promise.all([openViewer(), getVolume(id, series.number)]);
      if (shown?.series !== series) return;
      await open.load(volume);
      offerPlanes();
    } finally {
      find("screen-wait").hidden = true;
    }
    chooseWindow(0);
  }
  await showHeat();
  if (shown?.series !== series) return;
  goTo(place, true);
  find("screen").dataset.shown = String(series.number);
}

/** Forget the study: its pixels leave this page's memory too. */
export function clearReading() {
  shown = null;
  heats = new Map();
  viewer = null;
  find("film").replaceChildren();
  delete find("screen").dataset.shown;
}

function offerLabels() {
  const paint = mayPaint();
  const flagged = ["any", ...Object.keys(shown?.study.verdict.subtypes ?? {})].filter((label) =>
    slices().some((slice) => slice.flagged[label]),
  );
  const before = labelList.value;
  labelList.replaceChildren(
    ...flagged.map((label) => {
      const option = document.createElement("option");
      [option.value, option.textContent] = [label, capital(labelWord(label))];
      return option;
    }),
  );
  labelList.value = flagged.includes(before) ? before : (flagged[0] ?? "");
  find("heat-group").hidden = !paint || !flagged.length || !shown?.series.has_heat;
  find("untouched").hidden = !find("heat-group").hidden;
  find("untouched").textContent =
    shown?.study.verdict.answer === "no-answer"
      ? "No answer: the images are shown as they are."
      : shown && !shown.series.chosen
        ? "The verdict is of another series of this study: these images are shown as they are."
        : paint
          ? "No slice alone is flagged, or there are no heat maps: the images are shown as they are."
          : "No bleed found: the images are shown as they are.";
}

/** Lay the heat map of the chosen label over its flagged slices. */
async function showHeat() {
  const label = labelList.value;
  const now = shown;
  opacity.disabled = !heatBox.checked;
  if (!viewer || !now) return;
  if (!mayPaint() || !heatBox.checked || !label || !now.series.has_heat) {
    await viewer.setHeat(null, 0);
    find("screen").dataset.painted = "";
    return drawAll();
  }
  let heat = heats.get(label);
  if (!heat) heats.set(label, (heat = getHeat(now.id, now.series.number, label)));
  const buffer = await heat.catch((fault) => {
    heats.delete(label); // the next try asks again
    throw fault;
  });
  if (shown !== now || labelList.value !== label) return;
  await viewer.setHeat(keepSlices(buffer, slices().map((slice) => !!slice.flagged[label])), Number(opacity.value) / 100);
  find("screen").dataset.painted = label;
  drawAll();
}

const paintHeat = () => void showHeat().catch(onFault);

/** @param {string} label */
export function chooseLabel(label) {
  labelList.value = label;
  heatBox.checked = true;
  paintHeat();
}

/**
 * @param {number} next Place of a slice; beyond the ends it stops there.
 * @param {boolean} [quiet] Whether a screen reader is not told.
 */
export function goTo(next, quiet = false) {
  if (!slices().length) return;
  place = Math.min(slices().length - 1, Math.max(0, next));
  viewer?.goTo(place);
  drawAll();
  const slice = slices()[place];
  // The slider tells its own value.
  if (!quiet && document.activeElement !== slider)
    say(`Slice ${place + 1} of ${slices().length}, ${percent(slice.probabilities.any)}${slice.flagged.any ? ", flagged" : ""}.`);
}

/** @param {number} by */
export const step = (by) => goTo(place + by);

/** @param {number} direction Next flagged slice, 1 up or -1 down. */
export function stepFlagged(direction) {
  const places = [...slices().keys()].filter((one) => slices()[one].flagged.any && (one - place) * direction > 0);
  if (places.length) goTo(direction > 0 ? places[0] : /** @type {number} */ (places.at(-1)));
}

/** @param {number} number */
export function chooseWindow(number) {
  const one = windows[number];
  if (one) setWindow(one.centre, one.width);
}

/** @param {number} centre @param {number} width HU. */
function setWindow(centre, width) {
  grey = { centre: Math.round(centre), width: Math.round(width) };
  viewer?.setWindow(grey.centre, grey.width);
  const known = windows.findIndex((one) => one.centre === grey.centre && one.width === grey.width);
  for (const [number, button] of [...find("windows").querySelectorAll("input")].entries())
    button.checked = number === known;
  find("corner-window").textContent = `L ${grey.centre}  W ${grey.width}`;
}

export function resetView() {
  viewer?.resetView();
  chooseWindow(0);
}

/** @param {"heat" | "outlines" | "planes"} name */
export const toggle = (name) => find(name).click();

/** @param {number} by Percent. */
export function changeOpacity(by) {
  opacity.value = String(Number(opacity.value) + by);
  viewer?.setOpacity(Number(opacity.value) / 100);
}

function drawAll() {
  const slice = slices()[place];
  if (!slice || !shown) return;
  slider.value = String(place + 1);
  const words = `Slice ${place + 1} of ${slices().length}`;
  slider.setAttribute("aria-valuetext", `${words}, ${percent(slice.probabilities.any)}${slice.flagged.any ? ", flagged" : ""}`);
  find("corner-slice").textContent = `${place + 1} / ${slices().length}`;
  find("corner-score").textContent = `Any bleed ${percent(slice.probabilities.any)}${mayPaint() && slice.flagged.any ? " ▲" : ""}`;
  const above = slices().filter(({ flagged }) => flagged.any).length;
  curve.setAttribute("aria-label", `Probability of a bleed along ${counted(slices().length, "slice")}, ${above} flagged; the slider below it chooses the slice`);
  drawCurve(curve, {
    scores: slices().map(({ probabilities }) => probabilities.any),
    flagged: slices().map(({ flagged }) => !!flagged.any),
    threshold: shown.threshold,
    current: place,
  });
  const painted = mayPaint() && heatBox.checked && slice.flagged[labelList.value];
  find("corner-overlay").textContent = painted ? `Heat map: ${labelWord(labelList.value)}` : "";
  showHere(slice, tellRegions(slice));
  drawMarks();
}

/** @param {import("./words.js").Slice} slice */
function tellRegions(slice) {
  if (!mayPaint()) return "";
  const regions = slice.regions[labelList.value] ?? [];
  if (!slice.flagged[labelList.value]) return "No region: this slice is below the threshold.";
  if (!regions.length) return "No region: the heat map shows nothing here.";
  const areas = regions.map((region, number) => `${number + 1}: ${area(region.area_mm2)}`).join(", ");
  return `${capital(counted(regions.length, "region"))} of ${labelWord(labelList.value)}. ${areas}.`;
}

/** Draw the outlines of the regions of this slice. */
function drawMarks() {
  const slice = slices()[place];
  const label = labelList.value;
  const shows = slice && outlineBox.checked && mayPaint() && slice.flagged[label];
  drawRegions(shows ? (slice.regions[label] ?? []) : [], viewer);
}
