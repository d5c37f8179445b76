// @ts-check
/** Dark reading room or light page: the system's wish, until the reader chooses. */

const KEY = "hemtrace.theme";
const system = matchMedia("(prefers-color-scheme: light)");

export const isLight = () => {
  const chosen = localStorage.getItem(KEY);
  return chosen ? chosen === "light" : system.matches;
};

function apply() {
  const light = isLight();
  document.documentElement.dataset.theme = light ? "light" : "dark";
  const button = document.getElementById("theme");
  if (button) {
    button.textContent = light ? "Dark" : "Light";
    button.setAttribute("aria-label", light ? "Use the dark theme" : "Use the light theme");
  }
  document.dispatchEvent(new Event("theme"));
}

export function switchTheme() {
  localStorage.setItem(KEY, isLight() ? "dark" : "light");
  apply();
}

apply();
system.addEventListener("change", apply);
document.getElementById("theme")?.addEventListener("click", switchTheme);
