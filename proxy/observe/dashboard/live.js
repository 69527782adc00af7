/**
 * The connection to the proxy: server-sent events; where those do not get through, polling; where
 * nobody answers, tries with a growing pause. Says at once when contact is lost.
 */

/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Incident} Incident */

const SILENT_MS = 4000; // a stream brings a status each second
const POLL_MS = 2000;
const HIDDEN_POLL_MS = 10_000;
const STREAM_AGAIN_POLLS = 5;
const ANSWER_MS_MAX = 4000;
const PAUSE_MS_MIN = 500;
const PAUSE_MS_MAX = 10_000;

/** @typedef {{status: (status: Status) => void, incident: (incident: Incident) => void,
 *   lost: () => void}} Hears */

export class Live {
  /** @param {Hears} hears */
  constructor(hears) {
    this.hears = hears;
    this.streaming = false; // a stream is open and brings something
    this.fails = 0; // in a row
    this.error = ""; // what the last try met
    this.nextTry_ms = 0; // of performance.now(), while contact is lost
    /** @type {EventSource | null} */
    this.stream = null;
    this.polls = 0; // since the last stream
    this.asking = false;
    this.hidden = false;
    this.timer = 0; // one at a time: the next poll, or the patience with a stream
  }

  start() {
    this.#open();
    this.#after(POLL_MS, () => this.#poll());
  }

  /** Do not wait for the next try. */
  retry() {
    if (this.fails > 0) this.#poll();
  }

  /**
   * Nobody sees the page: it asks now and then. A stream would hold one of the six connections that
   * a browser opens to a server, and the seventh page would get no answer at all.
   */
  hide() {
    this.hidden = true;
    if (!this.stream) return;
    this.#close();
    this.polls = 1;
    this.#after(HIDDEN_POLL_MS, () => this.#poll());
  }

  show() {
    this.hidden = false;
    this.polls = 0;
    if (!this.streaming) this.#poll();
  }

  #open() {
    const stream = new EventSource("api/v1/events");
    this.stream = stream;
    stream.addEventListener("status", (event) => {
      this.streaming = true;
      this.polls = 0;
      this.#heard(JSON.parse(event.data));
      this.#after(SILENT_MS, () => this.#broke("nothing came for some seconds"));
    });
    stream.addEventListener("incident", (event) => this.hears.incident(JSON.parse(event.data)));
    stream.addEventListener("error", () => {
      stream.close(); // it would try again by itself, at its own pace
      if (stream !== this.stream) return;
      this.stream = null;
      if (this.streaming) this.#broke("the connection ended");
      else if (this.polls === 0) this.#poll();
    });
  }

  /** @param {string} error */
  #broke(error) {
    this.#close();
    this.polls = 0;
    this.#failed(error);
  }

  #close() {
    this.stream?.close();
    this.stream = null;
    this.streaming = false;
  }

  async #poll() {
    if (this.asking) return;
    this.asking = true;
    try {
      const status = await ask();
      if (this.streaming) return; // it was faster
      this.#heard(status);
      const open = !this.stream && !this.hidden && this.polls % STREAM_AGAIN_POLLS === 0;
      if (open) this.#open();
      this.polls += 1;
      this.#after(this.hidden ? HIDDEN_POLL_MS : POLL_MS, () => this.#poll());
    } catch (error) {
      if (!this.streaming) this.#failed(error instanceof Error ? error.message : String(error));
    } finally {
      this.asking = false;
    this.hidden = false;
    }
  }

  /** @param {Status} status */
  #heard(status) {
    this.fails = 0;
    this.error = "";
    this.hears.status(status);
  }

  /** @param {string} error */
  #failed(error) {
    const pause_ms = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** this.fails);
    const jittered_ms = pause_ms * (0.75 + Math.random() / 2); // many pages, one proxy
    this.fails += 1;
    this.error = error;
    this.nextTry_ms = performance.now() + jittered_ms;
    this.#after(jittered_ms, () => this.#poll());
    this.hears.lost();
  }

  /** @param {number} ms @param {() => void} act */
  #after(ms, act) {
    clearTimeout(this.timer);
    this.timer = setTimeout(act, ms);
  }
}

/** @returns {Promise<Status>} */
async function ask() {
  const answer = await fetch("api/v1/status", {
    cache: "no-store",
    signal: AbortSignal.timeout(ANSWER_MS_MAX),
  });
  if (!answer.ok) throw new Error(await refusal(answer));
  return answer.json();
}

/** What the proxy says instead of a status. @param {Response} answer */
async function refusal(answer) {
  try {
    return String((await answer.json()).error);
  } catch {
    return `HTTP ${answer.status}`;
  }
}
