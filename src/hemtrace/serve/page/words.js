// @ts-check
/** Numbers and labels in words, and the shapes of what the API gives. */

/**
 * @typedef {{top: number, left: number, bottom: number, right: number, area_mm2: number | null, outline: number[][]}} Region
 * @typedef {{place: number, file: string, frame: number | null, z_mm: number | null, probabilities: Record<string, number | null>, flagged: Record<string, boolean | null>, regions: Record<string, Region[]>}} Slice
 * @typedef {{number: number, description: string, chosen: boolean, slices: Slice[], copies: number, has_heat: boolean, orientation: string | null, volume_ml: Record<string, number | null>}} Series
 * @typedef {{code: string, sentence: string, stops: boolean}} Reason
 * @typedef {{answer: "bleed" | "no-bleed" | "no-answer", point: string, probability: number | null, threshold: number | null, sensitivity: number | null, specificity: number | null, subtypes: Record<string, number | null>, flagged: Record<string, boolean>, reasons: Reason[], sentence: string}} Verdict
 * @typedef {{key: string | null, patient_name: string, patient_id: string, study_date: string, description: string, verdict: Verdict, series: Series[]}} Study
 * @typedef {{file: string, frame: number | null, reason: string, meaning: string}} Rejected
 * @typedef {{id: string, state: string, point: string, sample: boolean, studies: Study[], rejected: Rejected[], kept_minutes: number}} Job
 * @typedef {{name: string, centre: number, width: number}} Window
 * @typedef {{name: string, meaning: string, threshold: number | null, sensitivity: number | null, specificity: number | null, patients: number | null, slice_threshold?: number | null}} Point
 * @typedef {{name: string, sha256: string, trained_on: string, synthetic: boolean, runtime: string, labels: string[], windows: Window[], points: Point[], default_point: string, limits: Record<string, number>, sample: boolean, version: string, disclaimer: string}} Model
 */

/** @type {Record<string, string>} */
const LABELS = {
  any: "any bleed",
  epidural: "epidural",
  intraparenchymal: "intraparenchymal",
  intraventricular: "intraventricular",
  subarachnoid: "subarachnoid",
  subdural: "subdural",
};

/** Windows that radiologists know, where the model's own list lacks them. @type {Window[]} */
export const STANDARD = [
  { name: "brain", centre: 40, width: 80 },
  { name: "subdural", centre: 80, width: 200 },
  { name: "stroke", centre: 40, width: 40 },
  { name: "soft tissue", centre: 40, width: 380 },
  { name: "bone", centre: 600, width: 2800 },
];

/** @param {string} label */
export const labelWord = (label) => LABELS[label] ?? label;

/** @param {string} text */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/**
 * Write a probability so that neither end claims more than is known.
 * @param {number | null | undefined} value 0..1.
 */
export function percent(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "not known";
  if (value < 0.005) return "< 1 %";
  if (value > 0.995 && value < 1) return "> 99 %";
  return `${Math.round(value * 100)} %`;
}

/** @param {number | null | undefined} value mm². */
export function area(value) {
  if (value === null || value === undefined) return "area not known";
  return value >= 100 ? `${(value / 100).toFixed(1)} cm²` : `${Math.round(value)} mm²`;
}

/** @param {number | null | undefined} value mL. */
export function volume(value) {
  if (value === null || value === undefined) return "";
  if (value === 0) return "";
  return value < 0.1 ? "< 0.1 mL" : `${value.toFixed(value < 10 ? 1 : 0)} mL`;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let step = 0;
  while (bytes >= 1000 && step < units.length - 1) [bytes, step] = [bytes / 1000, step + 1];
  return `${bytes < 10 && step ? bytes.toFixed(1) : Math.round(bytes)} ${units[step]}`;
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export const counted = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** @param {string} date DICOM's YYYYMMDD, PS3.5 6.2. */
export function day(date) {
  const parts = /^(\d{4})(\d{2})(\d{2})$/.exec(date);
  return parts ? `${parts[1]}-${parts[2]}-${parts[3]}` : date;
}

/** @param {string} name DICOM's Family^Given, PS3.5 6.2.1. */
export const person = (name) => name.split("=")[0].split("^").filter(Boolean).join(", ");

/**
 * Name the machine that files are sent to: only a loopback name is the reader's own.
 * @param {{hostname: string, host: string}} location
 */
export const tellHost = ({ hostname, host }) =>
  /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname) ? "the server on this computer" : `the server ${host}`;
