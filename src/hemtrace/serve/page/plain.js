// @ts-check
/** The stack on a plain canvas, for browsers without WebGL2: axial slices, the same windows and colours. */

import { HEAT, HEAT_FROM, readVolume } from "./nifti.js";

/** Colours of HEAT at each of 256 values: red, green, blue, opacity. */
const COLOURS = Array.from({ length: 256 }, (_, value) => {
  const at = Math.max(0, (255 * (value - HEAT_FROM)) / (255 - HEAT_FROM));
  const last = HEAT.I.length - 1;
  const step = Math.min(last - 1, HEAT.I.findLastIndex((from) => from <= at));
  const share = (at - HEAT.I[step]) / (HEAT.I[step + 1] - HEAT.I[step]);
  return [HEAT.R, HEAT.G, HEAT.B, HEAT.A].map((all) => all[step] + share * (all[step + 1] - all[step]));
});

/**
 * @param {HTMLElement} host
 * @param {() => void} redrawn Called when the picture has moved.
 * @returns {import("./viewer.js").Viewer}
 */
export function openPlain(host, redrawn) {
  const canvas = document.createElement("canvas");
  const picture = document.createElement("canvas");
  host.replaceChildren(canvas);
  /** @type {import("./nifti.js").Volume | null} */
  let volume = null;
  /** @type {import("./nifti.js").Volume | null} */
  let heat = null;
  let [place, centre, width, opacity] = [0, 40, 80, 0.45];
  const view = { zoom: 1, across: 0, down: 0 };

  /** Where the whole slice lies on the host: left, top, width, height in CSS pixels. */
  const frame = () => {
    const { columns, rows, spacing } = /** @type {import("./nifti.js").Volume} */ (volume);
    const [wide, high] = [columns * spacing[0], rows * spacing[1]];
    const scale = Math.min(host.clientWidth / wide, host.clientHeight / high) * view.zoom;
    return {
      left: (host.clientWidth - wide * scale) / 2 + view.across,
      top: (host.clientHeight - high * scale) / 2 + view.down,
      width: wide * scale,
      height: high * scale,
    };
  };

  const paint = () => {
    if (!volume || !host.clientWidth) return;
    const { columns, rows } = volume;
    [picture.width, picture.height] = [columns, rows];
    const context = /** @type {CanvasRenderingContext2D} */ (picture.getContext("2d"));
    const image = context.createImageData(columns, rows);
    const start = place * rows * columns;
    for (let pixel = 0; pixel < rows * columns; pixel++) {
      const grey = (255 * (volume.data[start + pixel] - centre + width / 2)) / width;
      const [red, green, blue, clear] = heat ? COLOURS[heat.data[start + pixel]] : [0, 0, 0, 0];
      const share = (clear / 255) * opacity;
      const base = Math.min(255, Math.max(0, grey)) * (1 - share);
      image.data.set([base + red * share, base + green * share, base + blue * share, 255], 4 * pixel);
    }
    context.putImageData(image, 0, 0);
    const ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [host.clientWidth * ratio, host.clientHeight * ratio];
    const shown = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    shown.scale(ratio, ratio);
    const at = frame();
    shown.drawImage(picture, at.left, at.top, at.width, at.height);
    redrawn();
  };
  new ResizeObserver(paint).observe(host);
  const reset = () => Object.assign(view, { zoom: 1, across: 0, down: 0 });

  return {
    hasPlanes: false,
    async load(buffer) {
      [volume, heat] = [readVolume(buffer), null];
      reset();
      paint();
    },
    goTo(next) {
      place = next;
      paint();
    },
    setWindow(nextCentre, nextWidth) {
      [centre, width] = [nextCentre, nextWidth];
      paint();
    },
    async setHeat(buffer, nextOpacity) {
      heat = buffer && readVolume(buffer);
      opacity = nextOpacity;
      paint();
    },
    setOpacity(next) {
      opacity = next;
      paint();
    },
    setPlanes() {},
    move({ zoom = 1, across = 0, down = 0 }) {
      view.zoom = Math.min(8, Math.max(1, view.zoom * zoom));
      view.across += across;
      view.down += down;
      if (view.zoom === 1) reset();
      paint();
    },
    resetView() {
      reset();
      paint();
    },
    toScreen(column, row) {
      if (!volume) return null;
      const at = frame();
      return [
        at.left + (column / volume.columns) * at.width,
        at.top + (row / volume.rows) * at.height,
      ];
    },
  };
}
