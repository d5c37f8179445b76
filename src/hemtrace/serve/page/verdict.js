// @ts-check
/** The answer on a study in words and figures. */

import { find, make } from "./dom.js";
import { capital, counted, labelWord, percent, volume } from "./words.js";

/** @type {Record<string, [string, string]>} The sign tells the answer without colour. */
export const ANSWERS = {
  bleed: ["Bleed suspected", "▲"],
  "no-bleed": ["No bleed found", "○"],
  "no-answer": ["No answer", "?"],
};

/**
 * @param {import("./words.js").Study} study
 * @param {import("./words.js").Model} model
 */
export function showVerdict({ verdict }, model) {
  const [words, sign] = ANSWERS[verdict.answer];
  find("verdict").dataset.answer = verdict.answer;
  find("answer").textContent = words;
  find("sign").textContent = sign;
  find("sentence").textContent = tellAnswer(verdict, words);
  const items = verdict.reasons.map(({ sentence, stops }) => {
    const item = make("li", "", stops ? "stop" : "wary");
    item.append(make("b", stops ? "Reason" : "Note"), ` ${sentence}`);
    return item;
  });
  find("reasons").replaceChildren(...items);
  find("reasons").hidden = !items.length;
  showFigures(verdict, model);
}

/**
 * Give the verdict's sentence without what stands above and below it.
 * @param {import("./words.js").Verdict} verdict
 * @param {string} words Of the heading.
 */
function tellAnswer({ answer, sentence: told, reasons }, words) {
  if (answer === "no-answer" && reasons.some(({ stops }) => stops)) return "Neither a bleed nor its absence is claimed, because:";
  return told.startsWith(`${words}: `) ? capital(told.slice(words.length + 2)) : told;
}

/**
 * @param {import("./words.js").Verdict} verdict
 * @param {import("./words.js").Model} model
 */
function showFigures(verdict, model) {
  const point = model.points.find(({ name }) => name === verdict.point);
  const gauge = find("gauge");
  // A score beside "no answer" would be read as one: what there is of it lies folded.
  find("scores").hidden = verdict.answer !== "no-answer" || verdict.probability === null;
  /** @type {HTMLDetailsElement} */ (find("scores")).open = false;
  gauge.hidden = verdict.probability === null || verdict.answer === "no-answer";
  const [bar, mark] = /** @type {HTMLElement[]} */ ([...gauge.children]);
  bar.style.width = `${100 * (verdict.probability ?? 0)}%`;
  mark.style.left = `${100 * (verdict.threshold ?? 0)}%`;
  mark.hidden = verdict.threshold === null;
  const patients = point?.patients;
  const figures = [
    ["Score of the study", percent(verdict.probability)],
    ["Threshold", percent(verdict.threshold)],
    ["Sensitivity", percent(verdict.sensitivity)],
    ["Specificity", percent(verdict.specificity)],
  ].map(([name, value]) => {
    const pair = make("div");
    pair.append(make("dt", name), make("dd", value));
    return pair;
  });
  const isAnswer = verdict.answer !== "no-answer";
  find("figures").replaceChildren(...(isAnswer ? figures : []));
  find("folded-figures").replaceChildren(...(isAnswer ? [] : figures));
  find(isAnswer ? "types-open" : "types-folded").append(find("types-box"));
  const measured = patients ? `Measured on ${counted(patients, "validation patient")}${model.synthetic ? ", all computer-made" : ""}.` : "";
  find("point-meaning").textContent = `${point ? sentence(point.meaning) : ""} ${measured}`.trim();
}

/** @param {string} text */
const sentence = (text) => (text ? `${capital(text).replace(/\.$/, "")}.` : "");

/**
 * Show a bar for each type.
 * @param {import("./words.js").Study} study
 * @param {import("./words.js").Series} series
 * @param {(label: string) => void} choose Called with the type whose heat map is wished.
 */
export function showTypes({ verdict }, series, choose) {
  const highest = Math.max(...series.slices.map(({ probabilities }) => probabilities.any ?? 0));
  const rows = Object.entries({ any: highest, ...verdict.subtypes }).map(([label, probability]) => {
    const flagged = verdict.flagged[label] && verdict.answer === "bleed";
    const row = make("tr", "", flagged ? "flagged" : "");
    const name = make("th");
    name.setAttribute("scope", "row");
    if (flagged) {
      const button = make("button", capital(labelWord(label)), "link");
      button.title = "Show its heat map";
      button.addEventListener("click", () => choose(label));
      name.append(button, make("span", " flagged", "unseen"));
    } else name.textContent = capital(labelWord(label));
    const cell = make("td");
    const line = make("div", "", "bar-cell");
    const track = make("span", "", "track");
    const fill = make("i");
    fill.style.width = `${100 * (probability ?? 0)}%`;
    track.append(fill);
    line.append(track, make("span", percent(probability), "numbers"));
    cell.append(line);
    row.append(name, cell, make("td", flagged ? volume(series.volume_ml[label]) : "", "numbers"));
    return row;
  });
  find("types").querySelector("tbody")?.replaceChildren(...rows);
  find("types-note").textContent = noteTypes(verdict, series);
}

/**
 * Say what the bars do not.
 * @param {import("./words.js").Verdict} verdict
 * @param {import("./words.js").Series} series
 */
function noteTypes(verdict, series) {
  if (verdict.answer === "bleed") return "Volumes are of the heat maps' regions within the head: rough, and no measurement of blood. The maps themselves are shown uncut.";
  if (verdict.answer === "no-answer") return "No answer is given: these figures decide nothing.";
  const alone = series.slices.filter(({ flagged }) => flagged.any).length;
  return alone ? `${capital(counted(alone, "slice"))} alone would be flagged; the study as a whole is below its threshold.` : "";
}

/**
 * Tell what the model says of the slice that is shown.
 * @param {import("./words.js").Slice} slice
 * @param {string} regions A sentence on its regions; empty where nothing is painted.
 */
export function showHere(slice, regions) {
  const list = make("dl", "", "figures");
  for (const [name, value] of [
    ["Any bleed", percent(slice.probabilities.any)],
    ["Position", slice.z_mm === null ? "not known" : `${slice.z_mm.toFixed(1)} mm`],
  ]) {
    const pair = make("div");
    pair.append(make("dt", name), make("dd", value));
    list.append(pair);
  }
  const types = Object.keys(slice.flagged).filter((label) => label !== "any" && slice.flagged[label]);
  const told = regions && types.length ? `Types: ${types.map(labelWord).join(", ")}.` : "";
  const file = slice.frame ? `${slice.file}, frame ${slice.frame}` : slice.file;
  find("here").replaceChildren(list, ...[told, regions].filter(Boolean).map((words) => make("p", words, "small")), make("p", file, "small file"));
}

/**
 * List files without a prediction; many of one reason in one line.
 * @param {import("./words.js").Rejected[]} rejected
 * @param {HTMLElement} list
 */
export function listRejected(rejected, list) {
  /** @type {Map<string, string[]>} */
  const byReason = new Map();
  for (const { file, meaning } of rejected) byReason.set(meaning, [...(byReason.get(meaning) ?? []), file]);
  list.replaceChildren(
    ...[...byReason].map(([meaning, files]) => {
      const item = make("li");
      const shown = files.slice(0, 5).join(", ");
      const more = files.length > 5 ? ` and ${files.length - 5} more` : "";
      item.append(make("strong", `${capital(meaning)}:`), make("span", ` ${shown}${more}`, "file"));
      return item;
    }),
  );
}
