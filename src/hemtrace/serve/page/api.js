// @ts-check
/** Everything that the page asks of the server. Nothing else in it knows an address. */

const ROOT = "/api/v1";
const TOKEN = "hemtrace.token";
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

/** What went wrong, as a sentence for the person at the page. */
export class Problem extends Error {
  /**
   * @param {string} sentence
   * @param {number} status 0 where no answer came at all.
   */
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/** @type {(refused: boolean) => Promise<string>} */
let askToken = async () => {
  throw new Problem("The server asks for a token.", 401);
};

/** @param {(refused: boolean) => Promise<string>} ask Called where the server answers 401. */
export function onToken(ask) {
  askToken = ask;
}

/** @returns {Record<string, string>} */
function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return { "X-Hemtrace": "1", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

/**
 * Tell what a refusal means and what to do.
 * @param {number} status
 * @param {any} problem Of RFC 9457, or nothing.
 */
function explain(status, problem) {
  const detail = problem && typeof problem.detail === "string" ? problem.detail : "";
  if (status === 404) return detail || "The server no longer has this study. Send it again.";
  if (status === 413) return detail || "This is more than the server takes. Send one study at a time.";
  if (status === 429 || status === 503)
    return detail || "The server is busy. Wait a minute and send it again.";
  if (status === 422) return "The server could not make sense of the request. Reload the page and try again.";
  return detail || problem?.title || `The server answered with an error (${status}). Try again.`;
}

const LOST = "The server cannot be reached. See whether it still runs, then try again.";

/** @type {Promise<string> | null} */
let asking = null;

/** @param {boolean} refused Whether a token was sent and not taken. */
async function renewToken(refused) {
  asking ??= askToken(refused);
  try {
    sessionStorage.setItem(TOKEN, await asking);
  } finally {
    asking = null;
  }
}

/**
 * @param {string} path Below the API's root.
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    let answer;
    try {
      answer = await fetch(ROOT + path, { ...options, headers: headers(), cache: "no-store" });
    } catch (fault) {
      if (/** @type {Error} */ (fault).name === "AbortError") throw fault;
      throw new Problem(LOST, 0);
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      // Another request may have been given a token while this one was on its way.
      if (token === sessionStorage.getItem(TOKEN)) await renewToken(token !== null);
      continue;
    }
    throw new Problem(explain(answer.status, await answer.json().catch(() => null)), answer.status);
  }
}

/** @returns {Promise<import("./words.js").Model>} */
export const getModel = async () => (await request("/model")).json();

/**
 * Send files; XMLHttpRequest because fetch tells nothing of an upload's progress.
 * @param {{file: File, name: string}[]} files
 * @param {(share: number) => void} progress
 * @param {AbortSignal} signal
 * @returns {Promise<string>} The study's id.
 */
export function sendFiles(files, progress, signal) {
  const form = new FormData();
  for (const { file, name } of files) form.append("files", file, name);
  return new Promise((resolve, reject) => {
    const sent = new XMLHttpRequest();
    sent.open("POST", `${ROOT}/studies`);
    for (const [name, value] of Object.entries(headers())) sent.setRequestHeader(name, value);
    sent.responseType = "json";
    sent.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    sent.onerror = () =>
      reject(new Problem("The upload broke off: the server closed the connection or cannot be reached. It may be too large; send one study at a time.", 0));
    sent.onabort = () => reject(new DOMException("stopped", "AbortError"));
    sent.onload = () => {
      if (sent.status < 300) return resolve(sent.response.id);
      if (sent.status === 401)
        return renewToken(hasToken()).then(() => resolve(sendFiles(files, progress, signal)), reject);
      reject(new Problem(explain(sent.status, sent.response), sent.status));
    };
    signal.addEventListener("abort", () => sent.abort());
    sent.send(form);
  });
}

/** @returns {Promise<string>} The study's id. */
export const startSample = async () =>
  (await (await request("/studies/sample", { method: "POST" })).json()).id;

/**
 * @param {string} id
 * @param {string} [point]
 * @returns {Promise<import("./words.js").Job>}
 */
export const getStudy = async (id, point) =>
  (await request(`/studies/${id}${point ? `?point=${encodeURIComponent(point)}` : ""}`)).json();

/** @param {string} id */
export const deleteStudy = (id) => request(`/studies/${id}`, { method: "DELETE", keepalive: true });

/** @param {string} id @param {number} series */
export const getVolume = async (id, series) =>
  (await request(`/studies/${id}/series/${series}/volume.nii`)).arrayBuffer();

/** @param {string} id @param {number} series @param {string} label */
export const getHeat = async (id, series, label) =>
  (await request(`/studies/${id}/series/${series}/heat/${encodeURIComponent(label)}.nii`)).arrayBuffer();

/**
 * Fetch what an event or a link names, such as a preview; only from this server's API.
 * @param {string} address
 * @returns {Promise<Blob>}
 */
export async function getBlob(address) {
  const path = new URL(address, location.href);
  if (path.origin !== location.origin || !path.pathname.startsWith(`${ROOT}/`))
    throw new Problem("The server named an address outside of itself.", 0);
  return (await request(path.pathname.slice(ROOT.length) + path.search)).blob();
}

/** @param {string} id @param {string} name @param {string} [point] */
export const exportAddress = (id, name, point) =>
  `${ROOT}/studies/${id}/${name}${point ? `?point=${encodeURIComponent(point)}` : ""}`;

/**
 * Follow a study until it is done or has failed; a lost connection is taken up again.
 * @param {string} id
 * @param {(name: string, data: any) => void} tell
 * @param {(lost: boolean) => void} connection Told whenever it is lost and when it is back.
 * @param {AbortSignal} signal
 */
export async function followStudy(id, tell, connection, signal) {
  for (let tries = 0; ; ) {
    try {
      const answer = await request(`/studies/${id}/events`, { signal });
      for await (const { name, data } of readEvents(answer)) {
        connection(false);
        tries = 0;
        tell(name, data);
        if (name === "done" || name === "failed") return;
      }
    } catch (fault) {
      if (signal.aborted || (fault instanceof Problem && fault.status)) throw fault;
    }
    connection(true);
    await new Promise((go) => setTimeout(go, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]));
    if (signal.aborted) throw new DOMException("stopped", "AbortError");
  }
}

/**
 * Read server-sent events from a response; EventSource cannot send a token.
 * @param {Response} answer
 * @returns {AsyncGenerator<{name: string, data: any}>}
 */
async function* readEvents(answer) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest = (rest + decoder.decode(value, { stream: true })).replaceAll("\r\n", "\n");
    const blocks = rest.split("\n\n");
    rest = /** @type {string} */ (blocks.pop());
    for (const block of blocks) {
      const lines = block.split("\n");
      const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim();
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      if (name && data.length) yield { name, data: JSON.parse(data.join("\n")) };
    }
  }
}
