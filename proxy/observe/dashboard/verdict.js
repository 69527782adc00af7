/** The first glance: is everything well, what is not, and what it was good for so far. */

import { attribute, change, el, icon, list, put } from "./dom.js";
import { NONE, brief, clock, count, span } from "./format.js";
import { sum } from "./history.js";
import { outcome } from "./outcome.js";
import { sentence } from "./words.js";

/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Finding} Finding */
/** @typedef {import("./types.js").Level} Level */

/** @type {Record<Level, [string, string]>} icon, and the word for those who see neither */
export const LEVELS = {
  good: ["good", "Well"],
  info: ["info", "Worth a look"],
  warning: ["warning", "Warning"],
  critical: ["critical", "Trouble"],
  unknown: ["unknown", "Unknown"],
};

/** @param {Status} status @returns {Level} */
export function level({ well, findings }) {
  if (well) return "good";
  return findings.some((one) => one.level === "critical") ? "critical" : "warning";
}

/** What a screen reader is told again: not for each second more. @param {string} text */
export const gist = (text) => text.replace(/\d+([.,\s\u00a0]\d+)*/g, "#");

/** The name in the tab. @type {Record<Level, string>} */
const TITLES = { good: "✓", info: "✓", warning: "!", critical: "✕", unknown: "?" };

export class Verdict {
  /** @param {() => void} retry */
  constructor(retry) {
    this.icon = icon("unknown");
    this.word = el("span", { class: "verdict-word" }, "Connecting");
    this.text = el("p", { class: "verdict-text", "data-field": "summary" }, "Asking Backstay …");
    this.note = el("p", { class: "verdict-note" });
    this.again = el("button", { type: "button", hidden: true }, "Try now");
    this.again.addEventListener("click", retry);
    this.spoken = el("p", { class: "visually-hidden", role: "status", "aria-live": "polite" });
    this.said = "";
    const findings = el("ul", { class: "findings", "aria-label": "Findings" });
    this.findings = list(findings, (one) => `${one.level} ${one.route} ${gist(one.text)}`, finding);
    this.root = el("div", { class: "verdict", "data-level": "unknown" },
      el("div", { class: "verdict-head" }, el("span", { class: "verdict-icon" }, this.icon),
        el("div", {}, this.word, this.text, this.note), this.again),
      this.spoken, findings);
  }

  /** @param {Status} status */
  update(status) {
    const now = level(status);
    const told = status.findings.find((one) => `${named(one)}.` === status.summary);
    const others = status.findings.filter((one) => one !== told);
    this.#show(now, status.summary, told ? told.advice : calm(status, others.length));
    this.findings(others);
    this.again.hidden = true;
  }

  /** Nobody answers: what stands on the page is old.
   * @param {{age_s: number | null, at_s: number, error: string, next_s: number}} lost */
  lost({ age_s, at_s, error, next_s }) {
    const text = age_s === null ? "Backstay does not answer."
      : `No contact with Backstay for ${span(age_s)}.`;
    const old = age_s === null ? ""
      : `What stands below is from ${clock(at_s, at_s)} and may be wrong. `;
    const next = next_s > 0 ? `Next try in ${span(Math.ceil(next_s))}` : "Trying";
    this.#show("unknown", text, `${old}${next} (${error || "no answer"}).`);
    this.again.hidden = false;
  }

  /** @param {Level} now @param {string} text @param {string} note */
  #show(now, text, note) {
    const [picture, word] = LEVELS[now];
    attribute(this.root, "data-level", now);
    change(this.icon, picture);
    put(this.word, word);
    put(this.text, text);
    put(this.note, note);
    const said = gist(`${word}: ${text}`);
    if (said !== this.said) put(this.spoken, `${word}: ${text}`);
    this.said = said;
    document.title = `${TITLES[now]} Backstay: ${gist(text) === text ? text : word.toLowerCase()}`;
  }
}

/** @param {Status} status @param {number} looks findings below it */
function calm(status, looks) {
  if (!status.well) return "";
  const first = past(status);
  if (looks === 0) return first;
  return `${first} ${looks === 1 ? "One thing is" : `${count(looks)} things are`} worth a look:`;
}

/** @param {Status} status */
function past(status) {
  const { incidents, now_s } = status;
  const open = incidents.filter(({ ended_s }) => ended_s === null);
  if (open.some((one) => outcome(one, status).level === "critical")) {
    return "Links were lost a moment ago; who needs one gets another.";
  }
  if (open.length) return "The last incident is just over.";
  const ended_s = Math.max(...incidents.map((one) => one.ended_s ?? 0));
  return incidents.length ? `The last incident ended ${span(now_s - ended_s)} ago.`
    : "No incident since Backstay started.";
}

/** Where, and what. @param {Finding} one */
const named = ({ route, text }) => (route ? `${route}: ${text}` : sentence(text));

/** @param {Finding} first */
function finding(first) {
  const [picture, word] = LEVELS[first.level] ?? LEVELS.info;
  const text = el("strong");
  const advice = el("span", { class: "advice" });
  const root = el("li", { "data-level": first.level }, icon(picture),
    el("div", {}, el("span", { class: "visually-hidden" }, `${word}: `), text, " ", advice));
  return {
    root,
    /** @param {Finding} one */
    update(one) {
      put(text, `${named(one)}.`);
      put(advice, one.advice);
    },
  };
}

/** Four numbers that say what Backstay was good for. */
export class Saved {
  constructor() {
    this.drops = tile("Drops absorbed", "drops_absorbed", "good");
    this.reads = tile("Redis reads saved", "reads_saved", "good");
    this.errors = tile("Errors answered", "errors_answered", "");
    this.clients = tile("Clients now", "clients", "");
    this.root = el("dl", { class: "saved" },
      ...[this.drops, this.reads, this.errors, this.clients].map(({ root }) => root));
  }

  /** @param {Status} status */
  update({ saved, postgres, redis, uptime_s }) {
    const since = `in ${span(uptime_s)}`;
    const clients = sum([...postgres, ...redis], (route) => route.clients);
    const waiting = sum([...postgres, ...redis], (route) => route.waiting);
    this.drops.set(brief(saved.drops_absorbed), `sessions got a new link unseen, ${since}`);
    this.reads.set(brief(saved.reads_saved), "answered here, or joined to a read under way");
    this.errors.set(brief(saved.errors_answered), "told what happened, and what it means");
    this.clients.set(brief(clients), waiting ? `${count(waiting)} waiting` : "none of them waits");
    this.reads.root.hidden = redis.length === 0;
  }
}

/** A number with its name and a note. @param {string} name @param {string} field
 * @param {string} tone */
export function tile(name, field, tone = "") {
  const value = el("span", { class: "tile-value", "data-field": field });
  const note = el("span", { class: "tile-note" });
  const root = el("div", { class: "tile", "data-tone": tone || null },
    el("dt", {}, name), el("dd", {}, value, note));
  return {
    root,
    /** @param {string} text @param {string} more @param {string} [now] */
    set(text, more = "", now = text === "0" || text === NONE ? "" : tone) {
      put(value, text);
      put(note, more);
      attribute(root, "data-tone", now || null);
    },
  };
}
