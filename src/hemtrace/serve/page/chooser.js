// @ts-check
/** Which study of an upload, and which series of it, is on the screen. */

import { find } from "./dom.js";
import { ANSWERS } from "./verdict.js";
import { counted, day, person } from "./words.js";

const studyList = /** @type {HTMLSelectElement} */ (find("studies"));
const seriesList = /** @type {HTMLSelectElement} */ (find("series"));

/**
 * @param {HTMLSelectElement} list
 * @param {string[]} texts Values are their places.
 */
function fill(list, texts) {
  list.replaceChildren(
    ...texts.map((text, place) => {
      const option = document.createElement("option");
      [option.value, option.textContent] = [String(place), text];
      return option;
    }),
  );
}

/**
 * Offer the studies of a job; the answer stands in the list, so that none is missed.
 * @param {import("./words.js").Study[]} studies
 */
export function offerStudies(studies) {
  const before = studyList.value;
  fill(
    studyList,
    studies.map(({ verdict, patient_name: name, patient_id: id, study_date: date }, place) =>
      [`${place + 1} of ${studies.length}: ${ANSWERS[verdict.answer][0]}`, person(name) || id, day(date)].filter(Boolean).join(", "),
    ),
  );
  if (before && Number(before) < studies.length) studyList.value = before;
  find("study-pick").hidden = studies.length < 2;
}

/**
 * Offer the series of a study.
 * @param {import("./words.js").Study} study
 * @param {boolean} keep Whether the one that is shown stays.
 */
export function offerSeries(study, keep) {
  const before = keep ? seriesList.value : "";
  fill(
    seriesList,
    study.series.map((series) => {
      const used = series.chosen ? "" : ", not used";
      return `${series.description || "no description"} (${counted(series.slices.length, "slice")}${used})`;
    }),
  );
  const chosen = study.series.findIndex((series) => series.chosen);
  seriesList.value = before || String(Math.max(0, chosen));
  find("series-pick").hidden = study.series.length < 2;
}

/** Forget which study was chosen. */
export const clearChooser = () => studyList.replaceChildren();

/** @param {import("./words.js").Job} job */
export const chosenStudy = (job) => job.studies[Number(studyList.value) || 0];

/** @param {import("./words.js").Study} study */
export const chosenSeries = (study) => study.series[Number(seriesList.value) || 0] ?? null;

/**
 * @param {() => void} onStudy
 * @param {() => void} onSeries
 */
export function watchChooser(onStudy, onSeries) {
  studyList.addEventListener("change", onStudy);
  seriesList.addEventListener("change", onSeries);
}
