/** A small line over the last five minutes, with the value of now, or of where the pointer is. */

import { attribute, el, put, svg } from "./dom.js";
import { clock, span } from "./format.js";
import { WINDOW_S } from "./history.js";

const WIDTH = 300;
const HEIGHT = 64;
const SPAN_S_MIN = 60;
const GAP_S = 25; // longer without a sample: the line breaks

/** @typedef {import("./history.js").Point} Point */
/** @typedef {import("./types.js").Incident} Incident */

/**
 * @typedef {{id: string, title: string, hint: string, write: (value: number | null) => string,
 *   value: (point: Point) => number | null, under?: (point: Point) => number | null,
 *   top?: number}} Plot `under`: a second, fainter line; `top`: of the scale, instead of the
 *   largest value
 */

export class Spark {
  /** @param {Plot} plot */
  constructor(plot) {
    this.plot = plot;
    /** @type {Point[]} */
    this.points = [];
    this.now_s = 0;
    this.span_s = WINDOW_S;
    /** @type {number | null} */
    this.at = null; // where the pointer is, 0 to 1
    this.value = el("strong", { class: "spark-value", "data-field": plot.id });
    this.when = el("span", { class: "spark-when" }, "now");
    this.scale = el("span");
    this.from = el("span");
    this.bands = svg("g", { class: "spark-bands" });
    this.area = svg("path", { class: "spark-area" });
    this.under = svg("path", { class: "spark-under" });
    this.line = svg("path", { class: "spark-line" });
    this.dot = svg("path", { class: "spark-dot" });
    this.image = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    }, this.bands, this.area, this.under, this.line, this.dot);
    this.root = el("figure", { class: "spark" },
      el("figcaption", {},
        el("span", { class: "spark-title", title: plot.hint }, plot.title),
        el("span", { class: "spark-now" }, this.value, " ", this.when)),
      this.image,
      el("div", { class: "spark-axis", "aria-hidden": "true" },
        this.from, this.scale, el("span", { class: "spark-when" }, "now")));
    this.image.addEventListener("pointermove", (event) => {
      const box = this.image.getBoundingClientRect();
      this.#point((event.clientX - box.left) / box.width);
    });
    this.image.addEventListener("pointerleave", () => this.#point(null));
  }

  /** @param {Point[]} points @param {number} now_s @param {Incident[]} incidents */
  update(points, now_s, incidents) {
    this.points = points;
    this.now_s = now_s;
    // As long as there is little to show, it is not squeezed into a corner.
    const minutes = Math.ceil((now_s - (points[0]?.t_s ?? now_s)) / SPAN_S_MIN);
    this.span_s = Math.min(WINDOW_S, Math.max(1, minutes) * SPAN_S_MIN);
    put(this.from, `${span(this.span_s)} ago`);
    const top = this.#top();
    attribute(this.line, "d", this.#path(this.plot.value, top, false));
    attribute(this.area, "d", this.#path(this.plot.value, top, true));
    if (this.plot.under) attribute(this.under, "d", this.#path(this.plot.under, top, false));
    put(this.scale, top > 0 && !this.plot.top ? `top ${this.plot.write(this.#largest())}` : "");
    this.#bands(incidents);
    this.#label(top);
  }

  #largest() {
    return Math.max(0, ...this.points.map((point) => this.plot.value(point) ?? 0));
  }

  #top() {
    return this.plot.top ?? this.#largest();
  }

  /** @param {number} t_s */
  #x(t_s) {
    return WIDTH * (1 - (this.now_s - t_s) / this.span_s);
  }

  /** @param {(point: Point) => number | null} value @param {number} top @param {boolean} filled */
  #path(value, top, filled) {
    let path = "";
    /** @type {Point[]} */
    let run = [];
    const end = () => {
      if (run.length && top > 0) {
        const places = run.map((point) => {
          const y = HEIGHT - 2 - (HEIGHT - 4) * Math.min(1, (value(point) ?? 0) / top);
          return `${this.#x(point.t_s).toFixed(1)} ${y.toFixed(1)}`;
        });
        path += `M${places.join("L")}`;
        if (filled) path += `L${last(places)} ${HEIGHT}L${first(places)} ${HEIGHT}Z`;
      }
      run = [];
    };
    for (const point of this.points) {
      const before = run.at(-1);
      if (before && point.t_s - before.t_s > GAP_S) end();
      if (value(point) !== null) run.push(point);
    }
    end();
    return path;
  }

  /** @param {Incident[]} incidents */
  #bands(incidents) {
    const seen = incidents.filter(({ ended_s }) => (ended_s ?? this.now_s) > this.now_s - this.span_s);
    this.bands.replaceChildren(...seen.map(({ started_s, ended_s }) => {
      const x = Math.max(0, this.#x(started_s));
      return svg("rect", {
        x, y: 0, height: HEIGHT, width: Math.max(1.5, this.#x(ended_s ?? this.now_s) - x),
      });
    }));
  }

  /** @param {number | null} at */
  #point(at) {
    this.at = at;
    this.#label(this.#top());
  }

  /** @param {number} top */
  #label(top) {
    const t_s = this.now_s - this.span_s * (1 - (this.at ?? 1));
    const point = this.points.findLast((one) => one.t_s <= t_s + 1) ?? null;
    const value = point && this.plot.value(point);
    put(this.value, this.plot.write(value));
    put(this.when, this.at === null ? "now" : clock(t_s, this.now_s));
    const y = HEIGHT - 2 - (HEIGHT - 4) * Math.min(1, (value ?? 0) / (top || 1));
    // A line of no length with round ends stays round where the picture is stretched.
    const x = point ? Math.min(WIDTH - 1, this.#x(point.t_s)) : 0;
    attribute(this.dot, "d", value === null ? "" : `M${x.toFixed(1)} ${y.toFixed(1)}h0.01`);
    attribute(this.image, "aria-label", `${this.plot.title}, the last ${span(this.span_s)}: now `
      + `${this.plot.write(value)}, highest ${this.plot.write(this.#largest())}`);
  }
}

/** The x of the last place. @param {string[]} places */
const last = (places) => places[places.length - 1].split(" ")[0];
/** @param {string[]} places */
const first = (places) => places[0].split(" ")[0];
