// @ts-check
/** Keys, in one table: what the page does and what the help says cannot part. */

import { find, make } from "./dom.js";

const KEY = "hemtrace.keys";

/**
 * @typedef {object} Key
 * @property {string[]} keys As KeyboardEvent names them.
 * @property {string} shown
 * @property {string} does
 * @property {(key: string) => void} act
 */

/**
 * @param {Key[]} table
 * @param {() => boolean} ready Whether a study is on screen; help and theme work always.
 */
export function watchKeys(table, ready) {
  const always = new Set(["?", "t"]);
  // Who speaks to the computer, or hits keys by chance, can have them off (WCAG 2.1.4).
  const used = /** @type {HTMLInputElement} */ (find("use-keys"));
  used.checked = localStorage.getItem(KEY) !== "off";
  used.addEventListener("change", () => localStorage.setItem(KEY, used.checked ? "on" : "off"));
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !used.checked || document.querySelector("dialog[open]")) return;
    const at = /** @type {HTMLElement} */ (event.target);
    const field = at.matches?.("input:not([type=checkbox]):not([type=radio]), select, textarea");
    // Arrows move within a group of radio buttons, a range and a list: they stay theirs.
    if (field || (at.matches?.("input[type=radio]") && event.key.startsWith("Arrow"))) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const found = table.find(({ keys }) => keys.includes(key));
    if (!found || (!always.has(key) && !ready())) return;
    event.preventDefault();
    found.act(key);
  });
  find("keys").replaceChildren(
    ...table.map(({ shown, does }) => {
      const pair = make("div");
      const name = make("dt");
      for (const key of shown.split(" ")) name.append(make("kbd", key), " ");
      pair.append(name, make("dd", does));
      return pair;
    }),
  );
}
