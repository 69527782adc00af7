/** Incidents: the time line, and each in words, what died, who waited, what became of the work. */

import { attribute, change, el, icon, list, put } from "./dom.js";
import { clock, count, duration, some, span } from "./format.js";
import { total } from "./history.js";
import { outcome } from "./outcome.js";
import { Timeline } from "./timeline.js";
import { LEVELS } from "./verdict.js";
import { CERTIFICATES, ERRORS, REASONS, say, sentence } from "./words.js";

/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Incident} Incident */

const SHOWN_FIRST = 8;

export class Incidents {
  constructor() {
    this.all = false;
    /** @type {Status | null} */
    this.status = null;
    this.timeline = new Timeline((id) => this.#open(id));
    this.none = el("p", { class: "nothing" });
    this.items = el("ol", { class: "incidents", "aria-label": "Incidents, newest first" });
    this.list = list(this.items, (/** @type {Shown} */ { incident }) => incident.id, item);
    this.more = el("button", { type: "button", class: "more", hidden: true });
    this.more.addEventListener("click", () => this.#toggle());
    this.root = el("div", {}, this.timeline.root, this.none, this.items, this.more);
  }

  /** @param {Status} status */
  update(status) {
    this.status = status;
    const { incidents, uptime_s } = status;
    this.timeline.update(status);
    put(this.none, `None since Backstay started ${span(uptime_s)} ago.`);
    this.none.hidden = incidents.length > 0;
    const shown = this.all ? incidents : incidents.slice(0, SHOWN_FIRST);
    this.list(shown.map((incident) => ({ incident, status })));
    this.more.hidden = incidents.length <= SHOWN_FIRST;
    attribute(this.more, "aria-expanded", String(this.all));
    put(this.more, this.all ? `Show the newest ${SHOWN_FIRST} only`
      : `Show all ${count(incidents.length)}`);
  }

  #toggle() {
    this.all = !this.all;
    if (this.status) this.update(this.status);
  }

  /** @param {string} id */
  #open(id) {
    if (!this.all && this.status) {
      const place = this.status.incidents.findIndex((one) => one.id === id);
      if (place >= SHOWN_FIRST) this.#toggle();
    }
    const found = [...this.items.children].find((one) => one.getAttribute("data-id") === id);
    const details = found?.querySelector("details");
    if (!details) return;
    details.open = true;
    details.scrollIntoView({ block: "nearest" });
    details.querySelector("summary")?.focus({ preventScroll: true });
  }
}

/** @typedef {{incident: Incident, status: Status}} Shown */

/** @param {Shown} first */
function item({ incident: { id } }) {
  const sign = icon("good");
  const time = el("time");
  const route = el("strong");
  const what = el("span", { class: "incident-what" });
  const came = el("span", { class: "incident-outcome" });
  const facts = el("dl", { class: "facts" });
  const details = el("details", {},
    el("summary", {}, sign, time, route, what, came), facts);
  const root = el("li", { "data-id": id }, details);
  const fill = list(facts, (/** @type {Fact} */ { name }) => name, fact);
  return {
    root,
    /** @param {Shown} one */
    update({ incident, status }) {
      const { now_s } = status;
      const { level, text } = outcome(incident, status);
      attribute(root, "data-level", level);
      change(sign, LEVELS[level][0]);
      put(time, clock(incident.started_s, now_s));
      attribute(time, "datetime", new Date(incident.started_s * 1000).toISOString());
      put(route, incident.route);
      put(what, `${say(REASONS, incident.reason)}; ${waited(incident)}`);
      put(came, text);
      fill(factsOf(incident, now_s));
    },
  };
}

/** @param {Incident} incident */
function waited({ sessions, longest_wait_s, errors }) {
  if (sessions === 0) return total(errors) ? "who asked got an error" : "nobody was affected";
  const wait = longest_wait_s > 0 ? `, longest wait ${duration(longest_wait_s)}` : "";
  return `${some(sessions, "session")}${wait}`;
}

/** @typedef {{name: string, field: string, lines: string[], quote?: boolean}} Fact */

/** @param {Incident} incident @param {number} now_s @returns {Fact[]} */
function factsOf(incident, now_s) {
  const { started_s, ended_s } = incident;
  const took = ended_s === null ? `for ${span(now_s - started_s)} so far`
    : `for ${duration(ended_s - started_s)}, until ${clock(ended_s, now_s)}`;
  /** @type {Fact[]} */
  const facts = [
    { name: "When", field: "when", lines: [`${clock(started_s, now_s)}, ${took}`] },
    { name: "What died", field: "losses", lines: [
      `${incident.losses === 0 ? "No link" : some(incident.losses, "link")} to ${
        incident.upstream || "the upstream"}`] },
    { name: "Why", field: "reason", lines: [sentence(say(REASONS, incident.reason))] },
  ];
  if (incident.last_words) {
    facts.push({ name: "The server’s last words", field: "last_words", quote: true,
      lines: [incident.last_words] });
  }
  facts.push({ name: "Who waited", field: "sessions", lines: [sentence(waited(incident))] });
  if (incident.outage_s > 0) {
    facts.push({ name: "No link could be opened", field: "outage",
      lines: [`for ${duration(incident.outage_s)}`] });
  }
  facts.push({ name: "Sent again", field: "replayed",
    lines: lines(incident.replayed, CERTIFICATES, "nothing") });
  facts.push({ name: "Answered with an error", field: "errors",
    lines: lines(incident.errors, { ...REASONS, ...ERRORS }, "nobody") });
  return facts;
}

/** @param {Record<string, number>} counts @param {Record<string, string>} words
 * @param {string} none */
function lines(counts, words, none) {
  if (total(counts) === 0) return [sentence(none)];
  return Object.entries(counts).filter(([, n]) => n > 0).map(([name, n]) => {
    const said = say(words, name);
    return said === name ? `${count(n)} × ${name}` : `${count(n)} × ${name}: ${said}`;
  });
}

/** @param {Fact} first */
function fact({ name, field, quote }) {
  const value = el("dd", { "data-field": field });
  const update = list(value, (/** @type {{line: string, i: number}} */ { i }) => String(i), () => {
    const root = el(quote ? "q" : "span");
    return { root, update: (/** @type {{line: string}} */ { line }) => put(root, line) };
  });
  return {
    root: el("div", {}, el("dt", {}, name), value),
    /** @param {Fact} one */
    update: ({ lines: all }) => update(all.map((line, i) => ({ line, i }))),
  };
}
