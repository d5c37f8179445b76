// @ts-check
/** The little of NIfTI-1 that the server sends: one volume, int16 or uint8, i columns, j rows, k slices. */

/**
 * @typedef {object} Volume
 * @property {number} columns
 * @property {number} rows
 * @property {number} slices
 * @property {number[]} spacing Width, height and distance of voxels, mm.
 * @property {Int16Array | Uint8Array} data
 */

const INT16 = 4;
const SFORM_CODE = 254;

/**
 * @param {ArrayBuffer} buffer
 * @returns {Volume}
 */
export function readVolume(buffer) {
  const view = new DataView(buffer);
  if (view.getInt32(0, true) !== 348) throw new Error("This is no NIfTI-1 volume.");
  const [columns, rows, slices] = [1, 2, 3].map((axis) => view.getInt16(40 + 2 * axis, true));
  const spacing = [1, 2, 3].map((axis) => Math.abs(view.getFloat32(76 + 4 * axis, true)) || 1);
  const start = view.getFloat32(108, true);
  const Kind = view.getInt16(70, true) === INT16 ? Int16Array : Uint8Array;
  return { columns, rows, slices, spacing, data: new Kind(buffer, start, columns * rows * slices) };
}

/**
 * Let the viewer take a volume by the matrix of the screen, which the server marks as no patient's
 * where the series does not lie as usual. A viewer that turned it would not show it as it is stored.
 * @param {ArrayBuffer} buffer
 */
export function useMatrix(buffer) {
  new DataView(buffer).setInt16(SFORM_CODE, 1, true);
  return buffer;
}

/**
 * Copy a heat volume with the slices emptied that are not to carry colour.
 *
 * A map is scaled on each slice by itself, so that on a slice below the threshold it would paint
 * noise as boldly as blood.
 * @param {ArrayBuffer} buffer
 * @param {boolean[]} kept One for each slice.
 */
export function keepSlices(buffer, kept) {
  const copy = buffer.slice(0);
  const { columns, rows, data } = readVolume(copy);
  for (const [place, keep] of kept.entries())
    if (!keep) data.fill(0, place * rows * columns, (place + 1) * rows * columns);
  return copy;
}

/** Colours of heat: from a clear dark red to light yellow, so that brightness alone tells it too. */
export const HEAT = {
  R: [0, 120, 214, 250, 255],
  G: [0, 20, 62, 150, 240],
  B: [0, 30, 32, 40, 150],
  A: [0, 90, 170, 220, 255],
  I: [0, 64, 128, 192, 255],
};
// Below it a map says nothing of where.
export const HEAT_FROM = 40;
