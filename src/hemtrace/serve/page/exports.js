// @ts-check
/** What is taken along: the summary to print, the table, the results as DICOM. */

import { exportAddress, getBlob, hasToken } from "./api.js";
import { find, say } from "./dom.js";

/** @type {[string, string, string][]} Name on the page, of the file, and in words. */
const EXPORTS = [
  ["summary", "summary.html", "summary"],
  ["csv", "table.csv", "table"],
  ["dicom", "results.dcm.zip", "DICOM results"],
];

const linkOf = (/** @type {string} */ name) => /** @type {HTMLAnchorElement} */ (find(`export-${name}`));

/**
 * Let the links lead to what belongs to a study at its operating point.
 * @param {import("./words.js").Job} job
 */
export function setExports(job) {
  for (const [name, file] of EXPORTS) linkOf(name).href = exportAddress(job.id, file, job.point);
}

/** @param {(fault: unknown) => void} onFault */
export function watchExports(onFault) {
  for (const [name, file, words] of EXPORTS) {
    const link = linkOf(name);
    const opened = name === "summary";
    if (opened) [link.target, link.rel] = ["_blank", "noopener"];
    link.addEventListener("click", (event) => {
      // A link cannot carry a token: with one, the page too is fetched and saved.
      if (opened && !hasToken()) return;
      event.preventDefault();
      if (link.hasAttribute("aria-busy")) return;
      save(link, `hemtrace-${file}`, words).catch(onFault);
    });
  }
}

/**
 * Fetch a file and hand it to the browser; a refusal is a sentence on the page, not a file.
 * @param {HTMLAnchorElement} link
 * @param {string} file
 * @param {string} words
 */
async function save(link, file, words) {
  link.setAttribute("aria-busy", "true");
  say(`Making the ${words}.`);
  try {
    const address = URL.createObjectURL(await getBlob(link.href));
    const saved = document.createElement("a");
    [saved.href, saved.download] = [address, file];
    saved.click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    say(`The ${words} can be found among your downloads.`);
  } finally {
    link.removeAttribute("aria-busy");
  }
}
