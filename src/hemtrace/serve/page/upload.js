// @ts-check
/** From a drop or a chooser to a list of files with their names below the folder. */

import { find } from "./dom.js";

/** @typedef {{file: File, name: string}} Chosen */

// What systems leave in folders, which no one means to send.
const LITTER = /(^|\/)(\.DS_Store|Thumbs\.db|desktop\.ini|\._[^/]*)$/i;

/** @param {Chosen[]} files */
const withoutLitter = (files) => files.filter(({ name }) => !LITTER.test(name));

/**
 * List a dropped file, or all files of a dropped folder.
 * @param {FileSystemEntry} entry
 * @returns {Promise<Chosen[]>}
 */
async function listEntry(entry) {
  const name = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    const one = /** @type {FileSystemFileEntry} */ (entry);
    return [{ file: await new Promise((resolve, reject) => one.file(resolve, reject)), name }];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const found = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    // A reader gives a hundred entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const inner of some) found.push(...(await listEntry(inner)));
  }
}

/**
 * @param {DataTransfer} data
 * @returns {Promise<Chosen[]>}
 */
async function listDropped(data) {
  // The list is emptied when the event handler first waits: it is read before that.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => !!entry);
  const plain = [...data.files].map((file) => ({ file, name: file.name }));
  if (!entries.length) return plain;
  const lists = await Promise.all(entries.map((entry) => listEntry(entry)));
  return lists.flat();
}

/**
 * Hand every choice of files on.
 * @param {(files: Chosen[]) => void} take
 */
export function watchUploads(take) {
  const drop = find("drop");
  for (const kind of ["files", "folder"]) {
    const input = /** @type {HTMLInputElement} */ (find(kind));
    find(`choose-${kind}`).addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      const files = [...(input.files ?? [])];
      take(withoutLitter(files.map((file) => ({ file, name: file.webkitRelativePath || file.name }))));
      input.value = "";
    });
  }
  let depth = 0;
  const mark = (/** @type {number} */ change) => {
    depth = Math.max(0, depth + change);
    drop.classList.toggle("over", depth > 0);
  };
  // A file that misses the field by an inch must not replace the page.
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("dragenter", () => mark(1));
  window.addEventListener("dragleave", () => mark(-1));
  window.addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(-depth);
    if (find("start").hidden || !event.dataTransfer) return;
    take(withoutLitter(await listDropped(event.dataTransfer)));
  });
}
