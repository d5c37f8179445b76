// @ts-check
/** From a dropped file to a read study: the page's one thread of work. */

import * as api from "./api.js";
import { chosenSeries, chosenStudy, clearChooser, offerSeries, offerStudies, watchChooser } from "./chooser.js";
import { find, make, say, showScene, warn } from "./dom.js";
import { setExports, watchExports } from "./exports.js";
import { watchKeys } from "./keyboard.js";
import * as reading from "./reading.js";
import { switchTheme } from "./theme.js";
import { watchUploads } from "./upload.js";
import { listRejected, showTypes, showVerdict } from "./verdict.js";
import { clearWorking, showSending, showWorking } from "./working.js";
import { capital, counted, day, person, size, tellHost } from "./words.js";

// A reload goes on with the study; the id leaves with the tab.
const KEY = "hemtrace.study";

/** @type {import("./words.js").Model} */
let model;
/** @type {import("./words.js").Job | null} */
let job = null;
let stop = new AbortController();
const point = /** @type {HTMLSelectElement} */ (find("point"));

/** @param {unknown} fault */
function tellFault(fault) {
  if (/** @type {Error} */ (fault)?.name === "AbortError") return;
  warn(fault instanceof api.Problem ? fault.message : "The page met an error of its own. Reload it and try again.");
  if (!(fault instanceof api.Problem)) console.error(fault);
}

function askToken(/** @type {boolean} */ refused) {
  const dialog = /** @type {HTMLDialogElement} */ (find("token-dialog"));
  const field = /** @type {HTMLInputElement} */ (find("token"));
  if (refused) find("token-text").textContent = "The server did not take this token. See whether it is complete, and give it again.";
  field.value = "";
  dialog.showModal();
  return new Promise((/** @type {(token: string) => void} */ resolve, reject) => {
    dialog.addEventListener(
      "close",
      () => (field.value && dialog.returnValue === "ok" ? resolve(field.value.trim()) : reject(new api.Problem("Without its token the server tells nothing. Reload the page to give it.", 401))),
      { once: true },
    );
  });
}

/**
 * Run a study from its sending to its verdict.
 * @param {(signal: AbortSignal) => Promise<string>} begin Gives the id.
 */
async function run(begin) {
  warn("");
  stop = new AbortController();
  clearWorking();
  // A study begins where the model's makers would; the reader may choose otherwise.
  point.value = model.default_point;
  showScene("working");
  try {
    const id = await begin(stop.signal);
    sessionStorage.setItem(KEY, id);
    await follow(id);
  } catch (fault) {
    showScene("start");
    tellFault(fault);
  }
}

/** @param {string} id */
async function follow(id) {
  const failed = await showWorking(id, stop.signal);
  if (failed) {
    sessionStorage.removeItem(KEY);
    throw new api.Problem(failed.detail || failed.title || "The prediction failed. Send the study again.", 500);
  }
  job = await api.getStudy(id, point.value);
  if (job.studies.length) showStudies(job);
  else showNothing(job);
}

/** @param {import("./words.js").Job} done */
function showNothing(done) {
  sessionStorage.removeItem(KEY);
  find("nothing-text").textContent =
    `${capital(counted(done.rejected.length, "file was", "files were"))} received, none of them a CT slice of a head that can be read. Send the DICOM files of a head CT, or a zip of them.`;
  listRejected(done.rejected, find("nothing-list"));
  showScene("nothing");
  find("nothing-title").focus();
  void api.deleteStudy(done.id).catch(() => undefined);
}

/** @param {import("./words.js").Job} done */
function showStudies(done) {
  find("rejected").hidden = !done.rejected.length;
  find("rejected-title").textContent = `${counted(done.rejected.length, "file")} without a prediction`;
  listRejected(done.rejected, find("rejected-list"));
  find("kept").textContent = `The server deletes this study ${counted(Math.round(done.kept_minutes), "minute")} after it was last asked for it.`;
  clearChooser();
  showScene("study");
  showStudy();
  find("answer").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

/** Show the chosen study, its chosen series first. @param {boolean} keep Whether the series on screen stays. */
function showStudy(keep = false) {
  if (!job) return;
  offerStudies(job.studies);
  const study = chosenStudy(job);
  offerSeries(study, keep);
  const parts = [person(study.patient_name), study.patient_id, day(study.study_date), study.description];
  find("patient").replaceChildren(
    ...(job.sample
      ? [make("span", "Sample study: a computer-made head, no patient", "sample-mark")]
      : parts.filter(Boolean).map((part) => make("span", part))),
  );
  showVerdict(study, model);
  setExports(job);
  showChosen();
  say(`${find("answer").textContent}. ${study.verdict.sentence}`);
}

/** Show the chosen series of the chosen study. */
function showChosen() {
  if (!job) return;
  const study = chosenStudy(job);
  const series = chosenSeries(study);
  for (const id of ["screen", "curve-box", "controls", "types-box", "here-box"]) find(id).hidden = !series;
  find("no-images").hidden = !!series;
  if (!series) return reading.clearReading();
  showTypes(study, series, reading.chooseLabel);
  const threshold = model.points.find(({ name }) => name === job?.point)?.slice_threshold ?? null;
  reading.showSeries(job.id, study, series, threshold).catch(tellFault);
}

/** Leave the study; the server wipes it. */
async function leave() {
  const id = job?.id ?? sessionStorage.getItem(KEY);
  stop.abort();
  job = null;
  sessionStorage.removeItem(KEY);
  reading.clearReading();
  showScene("start");
  find("start-title").focus?.();
  if (id) await api.deleteStudy(id);
}

const remove = () => leave().then(() => { warn(""); say("The study is deleted from the server."); }, tellFault);

async function changePoint() {
  if (!job) return;
  try {
    job = await api.getStudy(job.id, point.value);
    showStudy(true);
  } catch (fault) {
    point.value = job.point;
    tellFault(fault);
  }
}

function showModel() {
  find("synthetic").hidden = !model.synthetic;
  find("model-line").textContent =
    `Model ${model.name} (${model.sha256.slice(0, 12)}), trained on ${model.trained_on}. hemtrace ${model.version}, ${model.runtime}. ${model.disclaimer}`;
  find("sample-line").hidden = !model.sample;
  const { upload_bytes: bytes, files } = model.limits ?? {};
  find("limits").textContent = [bytes ? `Up to ${size(bytes)}` : "", files ? `${files} files` : ""].filter(Boolean).join(", ");
  point.replaceChildren(
    ...model.points.map(({ name }) => {
      const option = document.createElement("option");
      [option.value, option.textContent] = [name, capital(name)];
      return option;
    }),
  );
  point.value = model.default_point;
  find("point-pick").hidden = !model.points.length;
}

/** @param {import("./upload.js").Chosen[]} files */
function take(files) {
  if (!files.length) return warn("There is no file in what was dropped. Drop DICOM files, a folder or a zip.");
  const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
  const { upload_bytes: most, file_bytes: each, files: count } = model.limits ?? {};
  if (most && bytes > most) return warn(`These files have ${size(bytes)}; the server takes ${size(most)} at a time. Send one study at a time.`);
  const large = files.find(({ file }) => each && file.size > each);
  if (large) return warn(`The file ${large.name} has ${size(large.file.size)}; the server takes files of up to ${size(each)}.`);
  if (count && files.length > count) return warn(`These are ${files.length} files; the server takes ${count} at a time. Send one study at a time.`);
  void run((signal) => api.sendFiles(files, showSending, signal));
}

const help = () => /** @type {HTMLDialogElement} */ (find("help-dialog")).showModal();

watchKeys(
  [
    { keys: ["ArrowUp", "ArrowRight"], shown: "↑ →", does: "next slice up", act: () => reading.step(1) },
    { keys: ["ArrowDown", "ArrowLeft"], shown: "↓ ←", does: "next slice down", act: () => reading.step(-1) },
    { keys: ["Home"], shown: "Home", does: "lowest slice", act: () => reading.goTo(0) },
    { keys: ["End"], shown: "End", does: "highest slice", act: () => reading.goTo(Infinity) },
    { keys: ["n"], shown: "N", does: "next flagged slice up", act: () => reading.stepFlagged(1) },
    { keys: ["p"], shown: "P", does: "next flagged slice down", act: () => reading.stepFlagged(-1) },
    { keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"], shown: "1 2 3 …", does: "window", act: (key) => reading.chooseWindow(Number(key) - 1) },
    { keys: ["h"], shown: "H", does: "heat map", act: () => reading.toggle("heat") },
    { keys: ["["], shown: "[", does: "heat map fainter", act: () => reading.changeOpacity(-10) },
    { keys: ["]"], shown: "]", does: "heat map stronger", act: () => reading.changeOpacity(10) },
    { keys: ["o"], shown: "O", does: "outlines", act: () => reading.toggle("outlines") },
    { keys: ["m"], shown: "M", does: "three planes", act: () => reading.toggle("planes") },
    { keys: ["r"], shown: "R", does: "reset the view", act: reading.resetView },
    { keys: ["t"], shown: "T", does: "dark or light", act: switchTheme },
    { keys: ["?"], shown: "?", does: "this help", act: help },
  ],
  () => !find("study").hidden,
);
find("help").addEventListener("click", help);
find("alert-close").addEventListener("click", () => warn(""));
find("cancel").addEventListener("click", remove);
find("delete").addEventListener("click", remove);
find("again").addEventListener("click", remove);
find("nothing-again").addEventListener("click", () => showScene("start"));
find("home").addEventListener("click", (event) => { event.preventDefault(); void remove(); });
watchExports(tellFault);
watchChooser(() => showStudy(), showChosen);
point.addEventListener("change", changePoint);
find("sample").addEventListener("click", () => void run(() => api.startSample()));
api.onToken(askToken);

async function begin() {
  try {
    model = await api.getModel();
  } catch (fault) {
    return tellFault(fault);
  }
  showModel();
  reading.prepareReading(model, tellFault);
  watchUploads(take);
  document.body.dataset.ready = "yes";
  const kept = sessionStorage.getItem(KEY);
  if (!kept) return;
  clearWorking();
  showScene("working");
  follow(kept).catch((fault) => {
    sessionStorage.removeItem(KEY);
    showScene("start");
    tellFault(fault);
  });
}

find("promise-host").textContent = tellHost(location);
showScene("start");
void begin();
