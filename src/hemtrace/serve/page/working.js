// @ts-check
/** What is shown while a study is sent, read and predicted: a slice at a time. */

import { followStudy, getBlob } from "./api.js";
import { drawCurve } from "./curve.js";
import { find, say, warn } from "./dom.js";
import { counted, percent } from "./words.js";

/** @param {number} share Of the bytes, 0..1. */
export function showSending(share) {
  find("working-title").textContent = "Sending";
  /** @type {HTMLProgressElement} */ (find("progress")).value = share;
  find("progress-text").textContent = `${Math.round(share * 100)} % sent`;
}

/** Empty the scene before a study. */
export function clearWorking() {
  showSending(0);
  const image = /** @type {HTMLImageElement} */ (find("preview"));
  image.hidden = true;
  image.removeAttribute("src");
  find("latest").textContent = "";
  find("growing").hidden = true;
}

/**
 * Follow a study and show its slices as they come.
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<any>} The problem it failed with, or nothing.
 */
export async function showWorking(id, signal) {
  /** @type {number[]} */
  let scores = [];
  let failed = null;
  let lost = false;
  let said = -1;
  const shower = previewShower();
  find("working-title").textContent = "Reading";
  find("progress-text").textContent = "Waiting for the first slice";
  /** @type {HTMLProgressElement} */ (find("progress")).removeAttribute("value");

  /** @param {string} name @param {any} data */
  const tell = (name, data) => {
    if (name === "progress") {
      if (data.maps) return showMaps(data);
      // Half the bar is reading, half is predicting: both take their time.
      const share = data.files ? (data.read + data.predicted) / (2 * data.files) : 0;
      find("working-title").textContent = data.predicted ? "Looking" : "Reading";
      /** @type {HTMLProgressElement} */ (find("progress")).value = Math.min(1, share);
      find("progress-text").textContent =
        `${data.read} of ${counted(data.files, "file")} read, ${counted(data.predicted, "slice")} looked at`;
      const quarter = Math.floor(share * 4);
      if (quarter > said) say(`${Math.round(share * 100)} percent done.`);
      said = Math.max(said, quarter);
    } else if (name === "slice") {
      scores = [...scores, data.any];
      find("latest").textContent = `Latest slice: ${percent(data.any)} for a bleed`;
      find("growing").hidden = false;
      drawCurve(/** @type {HTMLCanvasElement} */ (find("growing")), { scores });
      if (data.preview) shower.show(data.preview);
    } else if (name === "failed") failed = data;
  };
  /** @param {boolean} now */
  const connection = (now) => {
    if (now === lost) return;
    lost = now;
    if (!now) scores = [];
    warn(now ? "The connection to the server is lost. Trying again." : "");
  };
  try {
    await followStudy(id, tell, connection, signal);
  } finally {
    shower.stop();
  }
  return failed;
}

/**
 * Count the heat maps that are drawn after all slices. There is no bar: each series adds some.
 * @param {{mapped: number, maps: number}} data
 */
function showMaps(data) {
  const title = find("working-title");
  if (title.textContent !== "Drawing heat maps") say("Drawing heat maps.");
  title.textContent = "Drawing heat maps";
  /** @type {HTMLProgressElement} */ (find("progress")).removeAttribute("value");
  find("progress-text").textContent =
    `${data.mapped} of ${counted(data.maps, "heat map")} drawn`;
}

/** Show the latest preview; those that come while one is fetched are passed over. */
function previewShower() {
  const image = /** @type {HTMLImageElement} */ (find("preview"));
  /** @type {string | null} */
  let next = null;
  let busy = false;
  let stopped = false;
  let shown = "";
  const run = async () => {
    busy = true;
    while (next && !stopped) {
      const address = next;
      next = null;
      const blob = await getBlob(address).catch(() => null);
      if (!blob || stopped) continue;
      if (shown) URL.revokeObjectURL(shown);
      shown = URL.createObjectURL(blob);
      image.src = shown;
      image.alt = "The slice that was looked at last";
      image.hidden = false;
      await image.decode().catch(() => undefined);
    }
    busy = false;
  };
  return {
    show(/** @type {string} */ address) {
      next = address;
      if (!busy) void run();
    },
    stop() {
      stopped = true;
      if (shown) URL.revokeObjectURL(shown);
    },
  };
}
