/**
 * Incidents along time, a lane for each route. Decoration for the eye and the mouse: the list below
 * it says the same in words, and is what keyboards and screen readers use.
 */

import { attribute, el, list, put } from "./dom.js";
import { tick } from "./format.js";
import { outcome } from "./outcome.js";

/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Incident} Incident */

const STEPS_S = [60, 120, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400];
const CHOICES = [
  { name: "5 min", span_s: 300 },
  { name: "1 h", span_s: 3600 },
  { name: "24 h", span_s: 86400 },
  { name: "All", span_s: 0 },
];
const NOTHING_S = 3600;
const TICKS = 4;

export class Timeline {
  /** @param {(id: string) => void} open what a click on an incident does */
  constructor(open) {
    this.span_s = 0; // 0: whatever shows them all
    /** @type {Status | null} */
    this.status = null;
    const lanes = el("div", { class: "lanes" });
    this.lanes = list(lanes, (/** @type {Lane} */ one) => one.route, () => lane(open));
    this.ticks = Array.from({ length: TICKS + 1 }, () => el("span"));
    const axis = el("div", { class: "axis" }, ...this.ticks);
    this.root = el("div", { class: "timeline" }, this.#choices(),
      el("div", { class: "timeline-plot", "aria-hidden": "true" }, lanes, axis));
  }

  #choices() {
    const buttons = CHOICES.map(({ name, span_s }) => {
      const radio = el("input", { type: "radio", name: "span", checked: span_s === 0 });
      radio.addEventListener("change", () => {
        this.span_s = span_s;
        if (this.status) this.update(this.status);
      });
      return el("label", {}, radio, el("span", {}, name));
    });
    return el("fieldset", { class: "choices" },
      el("legend", { class: "visually-hidden" }, "Length of the time line"), ...buttons);
  }

  /** @param {Status} status */
  update(status) {
    this.status = status;
    const { now_s, incidents } = status;
    const span_s = this.span_s || fitting(status);
    for (const [i, one] of this.ticks.entries()) {
      put(one, i === TICKS ? "now" : tick(now_s - span_s * (1 - i / TICKS), span_s));
    }
    const routes = [...status.postgres, ...status.redis].map(({ name }) => name);
    this.lanes([...new Set(routes.concat(incidents.map(({ route }) => route)))].map((route) => ({
      route,
      status,
      span_s,
      incidents: incidents.filter((one) => one.route === route
        && (one.ended_s ?? now_s) >= now_s - span_s),
    })));
  }
}

/** @typedef {{route: string, status: Status, span_s: number, incidents: Incident[]}} Lane */

/** The shortest step that holds all of them; without any, the last hour. @param {Status} status */
function fitting({ incidents, now_s, uptime_s }) {
  const none_s = now_s - Math.min(uptime_s, NOTHING_S);
  const oldest_s = Math.min(...incidents.map(({ started_s }) => started_s));
  const from_s = incidents.length ? oldest_s : none_s;
  return STEPS_S.find((step_s) => from_s >= now_s - step_s) ?? STEPS_S[STEPS_S.length - 1];
}

/** @param {(id: string) => void} open */
function lane(open) {
  const name = el("span", { class: "lane-name" });
  const track = el("div", { class: "lane-track" });
  const marks = list(track, (/** @type {Placed} */ one) => one.incident.id, () => mark(open));
  return {
    root: el("div", { class: "lane" }, name, track),
    /** @param {Lane} one */
    update({ route, status, span_s, incidents }) {
      const { now_s } = status;
      put(name, route);
      marks(incidents.map((incident) => {
        const from = Math.max(0, 1 - (now_s - incident.started_s) / span_s);
        const to = Math.min(1, 1 - (now_s - (incident.ended_s ?? now_s)) / span_s);
        return { incident, status, from, to: Math.max(from, to) };
      }));
    },
  };
}

/** @typedef {{incident: Incident, status: Status, from: number, to: number}} Placed */

/** @param {(id: string) => void} open */
function mark(open) {
  const root = el("span", { class: "mark" });
  let id = "";
  root.addEventListener("click", () => open(id));
  return {
    root,
    /** @param {Placed} one */
    update({ incident, status, from, to }) {
      id = incident.id;
      const { level, text } = outcome(incident, status);
      attribute(root, "data-level", level);
      attribute(root, "data-open", incident.ended_s === null);
      attribute(root, "title", `${incident.route}: ${text}`);
      const left = `${(100 * from).toFixed(2)}%`;
      const width = `${(100 * (to - from)).toFixed(2)}%`;
      if (root.style.left !== left) root.style.left = left;
      if (root.style.width !== width) root.style.width = width;
    },
  };
}
