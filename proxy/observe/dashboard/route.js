/** What the cards of both dialects have in common. */

import { attribute, change, el, icon, put } from "./dom.js";
import { count, duration, span } from "./format.js";
import { sum, total } from "./history.js";
import { table } from "./table.js";
import { LEVELS } from "./verdict.js";
import { REASONS, STATES, say, sentence } from "./words.js";

/** @typedef {import("./types.js").Route} Route */
/** @typedef {import("./types.js").Latency} Latency */
/** @typedef {import("./types.js").Counts} Counts */
/** @typedef {import("./types.js").Level} Level */

/** @type {Record<string, Level>} */
const TONES = {
  up: "good", ready: "good", idle: "info", starting: "info", paused: "warning",
  draining: "warning", away: "critical",
};

/** A state as icon and word. */
export function badge() {
  const sign = icon("unknown");
  const word = el("span");
  const root = el("span", { class: "badge", "data-field": "state" }, sign, word);
  return {
    root,
    /** @param {string} state */
    update(state) {
      const tone = TONES[state] ?? "unknown";
      attribute(root, "data-level", tone);
      change(sign, tone === "info" ? "idle" : LEVELS[tone][0]);
      put(word, say(STATES, state));
    },
  };
}

/** Name, state, where from and where to. @param {string} kind */
export function head(kind) {
  const name = el("h3");
  const state = badge();
  const path = el("p", { class: "path" });
  const trouble = el("p", { class: "trouble", hidden: true });
  return {
    root: el("header", {}, el("div", { class: "route-name" }, name, state.root), path, trouble),
    /** @param {Route} route */
    update(route) {
      put(name, route.name);
      state.update(route.state);
      put(path, `${kind} · ${route.listen.join(", ")} → ${route.upstream.join(", ")}`);
      trouble.hidden = route.state !== "away";
      put(trouble, `Away for ${span(route.away_s)}: ${say(REASONS, route.reason) || "no word"}.`);
    },
  };
}

/** @typedef {{name: string, what: string, count: number, p50_s: number, p99_s: number,
 *   max_s: number}} LatencyRow */

/** @type {[keyof Latency, string, string, boolean][]} the last: also without a number */
const LATENCIES = [
  ["wait", "Wait for a link", "before it is sent", true],
  ["server", "Server", "sent, until the end of its answer", true],
  ["proxy", "Backstay itself", "what it adds", true],
  ["restore", "Session restored", "from its loss to its new link", false],
  ["outage", "Outage", "from the last link’s loss to a new one", false],
  ["connect", "Link opened", "login included", false],
];

export function latencies() {
  /** @type {ReturnType<typeof table<LatencyRow>>} */
  const view = table({
    caption: "Latency since start",
    field: "latency",
    key: ({ name }) => name,
    empty: "Nothing was measured yet.",
    columns: [
      { head: "Part", write: ({ name }) => name, note: ({ what }) => what },
      { head: "p50", numeric: true, write: ({ p50_s }) => duration(p50_s) },
      { head: "p99", numeric: true, write: ({ p99_s }) => duration(p99_s) },
      { head: "longest", numeric: true, write: ({ max_s }) => duration(max_s) },
      { head: "measured", numeric: true, spare: true, write: (row) => count(row.count) },
    ],
  });
  return {
    root: view.root,
    /** @param {Latency} latency */
    update(latency) {
      const measured = sum(LATENCIES, ([part]) => latency[part].count) > 0;
      const shown = LATENCIES.filter(([part, , , always]) => measured
        && (always || latency[part].count > 0));
      view.update(shown.map(([part, name, what]) => ({ ...latency[part], name, what })));
    },
  };
}

/**
 * Counts by name, largest first, each with its share.
 * @param {{caption: string, hint?: string, empty: string, field: string, unit: string,
 *   words: Record<string, string>}} options
 */
export function tally({ caption, hint, empty, field, unit, words }) {
  /** @typedef {{name: string, n: number, share: number}} Row */
  /** @type {ReturnType<typeof table<Row>>} */
  const view = table({
    caption,
    hint,
    field,
    empty,
    key: ({ name }) => name,
    columns: [
      { head: "Reason", write: ({ name }) => sentence(say(words, name)), note: ({ name }) => name },
      { head: unit, numeric: true, write: ({ n }) => count(n), share: ({ share }) => share },
    ],
  });
  return {
    root: view.root,
    /** @param {Counts} counts */
    update(counts) {
      const all = total(counts) || 1;
      const rows = Object.entries(counts).filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a);
      view.update(rows.map(([name, n]) => ({ name, n, share: n / all })));
    },
  };
}
