// @ts-check
/** The stack in niivue: axial as radiologists look at it, or three planes; the page owns all gestures. */

import { HEAT, HEAT_FROM, readVolume, useMatrix } from "./nifti.js";

const AXIAL = 0;
const MULTIPLANAR = 3;

/**
 * What both viewers do.
 * @typedef {object} Viewer
 * @property {boolean} hasPlanes
 * @property {(buffer: ArrayBuffer) => Promise<void>} load
 * @property {(place: number) => void} goTo
 * @property {(centre: number, width: number) => void} setWindow HU.
 * @property {(buffer: ArrayBuffer | null, opacity: number) => Promise<void>} setHeat
 * @property {(opacity: number) => void} setOpacity 0..1.
 * @property {(on: boolean) => void} setPlanes
 * @property {(by: {zoom?: number, across?: number, down?: number}) => void} move CSS pixels.
 * @property {() => void} resetView
 * @property {(column: number, row: number) => [number, number] | null} toScreen Edges of pixels of the slice that is shown -> CSS pixels of the host; null where it is not on screen.
 */

/**
 * Say whether this browser can run niivue.
 * @returns {boolean}
 */
export const hasWebGL2 = () => document.createElement("canvas").getContext("webgl2") !== null;

/**
 * Open niivue in an element.
 * @param {HTMLElement} host
 * @param {() => void} redrawn Called when the picture has moved.
 * @returns {Promise<Viewer>}
 */
export async function openNiivue(host, redrawn) {
  // A UMD build: it exports nothing and leaves its one name on the window.
  await import("./vendor/niivue.umd.js");
  const { Niivue, NVImage, cmapper } = /** @type {any} */ (globalThis).niivue;
  const canvas = document.createElement("canvas");
  host.replaceChildren(canvas);
  const niivue = new Niivue({
    interactive: false,
    dragAndDropEnabled: false,
    logLevel: "error",
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    isOrientationTextVisible: false,
    isColorbar: false,
    crosshairWidth: 0,
    sliceType: AXIAL,
    backColor: [0, 0, 0, 1],
    loadingText: "",
    show3Dcrosshair: false,
    multiplanarShowRender: 0,
    isSliceMM: false,
  });
  await niivue.attachToCanvas(canvas, false);
  cmapper.addColormap("hemtrace", HEAT);

  /** @type {import("./nifti.js").Volume} */
  let volume;
  let place = 0;
  let planes = false;
  // Fractions of a volume turned to RAS; the server's axes run left, back and up.
  const fraction = (/** @type {number} */ column, /** @type {number} */ row, /** @type {number} */ slice) =>
    [1 - column / volume.columns, 1 - row / volume.rows, (slice + 0.5) / volume.slices];
  /** @param {ArrayBuffer} buffer @param {object} how */
  const read = (buffer, how) =>
    NVImage.loadFromUrl({ url: "volume.nii", name: "volume.nii", buffer: useMatrix(buffer), ...how });
  const draw = () => {
    niivue.drawScene();
    redrawn();
  };
  new ResizeObserver(() => requestAnimationFrame(redrawn)).observe(host);

  /** @type {Viewer["toScreen"]} */
  const toScreen = (column, row) => {
    if (!volume || planes) return null;
    const tile = niivue.screenSlices.find((/** @type {any} */ one) => one.axCorSag === AXIAL);
    if (!tile) return null;
    const mm = niivue.frac2mm(fraction(column, row, place));
    const along = (mm[0] - tile.leftTopMM[0]) / tile.fovMM[0];
    const up = (mm[1] - tile.leftTopMM[1]) / tile.fovMM[1];
    const [left, top, width, height] = tile.leftTopWidthHeight;
    const ratio = canvas.width / Math.max(1, canvas.clientWidth);
    // A negative width is niivue's sign for a mirrored tile: left is then its right edge.
    return [(left + along * width) / ratio, (top + (1 - up) * height) / ratio];
  };

  return {
    hasPlanes: true,
    async load(buffer) {
      volume = readVolume(buffer);
      while (niivue.volumes.length) niivue.removeVolumeByIndex(niivue.volumes.length - 1);
      niivue.addVolume(await read(buffer, { colormap: "gray", cal_min: 0, cal_max: 80, trustCalMinMax: true }));
      niivue.setPan2Dxyzmm([0, 0, 0, 1]);
    },
    goTo(next) {
      place = next;
      const [x, y] = niivue.scene.crosshairPos;
      niivue.scene.crosshairPos = [x, y, fraction(0, 0, next)[2]];
      draw();
    },
    setWindow(centre, width) {
      const image = niivue.volumes[0];
      if (!image) return;
      image.cal_min = centre - width / 2;
      image.cal_max = centre + width / 2;
      niivue.updateGLVolume();
      redrawn();
    },
    async setHeat(buffer, opacity) {
      while (niivue.volumes.length > 1) niivue.removeVolumeByIndex(1);
      if (buffer)
        niivue.addVolume(await read(buffer, { colormap: "hemtrace", opacity, cal_min: HEAT_FROM, cal_max: 255, ignoreZeroVoxels: true }));
      draw();
    },
    setOpacity(opacity) {
      if (niivue.volumes.length > 1) niivue.setOpacity(1, opacity);
    },
    setPlanes(on) {
      planes = on;
      // Between thick slices nothing was measured: across them they are shown as the blocks they are.
      niivue.setInterpolation(on);
      niivue.opts.isOrientationTextVisible = on;
      niivue.opts.crosshairWidth = on ? 1 : 0;
      niivue.opts.crosshairColor = [0.42, 0.76, 0.83, 0.6];
      niivue.setSliceType(on ? MULTIPLANAR : AXIAL);
      draw();
    },
    move({ zoom = 1, across = 0, down = 0 }) {
      const [x, y, z, old] = niivue.scene.pan2Dxyzmm;
      const next = Math.min(8, Math.max(1, old * zoom));
      const pixel = (toScreen(1, 0)?.[0] ?? 1) - (toScreen(0, 0)?.[0] ?? 0);
      const mm = volume.spacing[0] / Math.max(1e-3, pixel);
      niivue.setPan2Dxyzmm(next === 1 ? [0, 0, 0, 1] : [x - across * mm * old, y - down * mm * old, z, next]);
      redrawn();
    },
    resetView() {
      niivue.setPan2Dxyzmm([0, 0, 0, 1]);
      redrawn();
    },
    toScreen,
  };
}
