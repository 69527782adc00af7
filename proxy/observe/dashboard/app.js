/** The page: brings what the connection hears to the views, and says how fresh it is. */

import { attribute, list, put } from "./dom.js";
import { clock, duration, percent, rate, span } from "./format.js";
import { History } from "./history.js";
import { Incidents } from "./incidents.js";
import { Live } from "./live.js";
import { postgres } from "./postgres.js";
import { redis } from "./redis.js";
import { Spark } from "./spark.js";
import { Saved, Verdict } from "./verdict.js";
import { workers } from "./workers.js";

/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Incident} Incident */

const STALE_MS = 3500; // a status comes each second, or by polling each two
const STALE_HIDDEN_MS = 75_000; // browsers let a hidden page act once a minute
const TICK_MS = 500;

/** @type {import("./spark.js").Plot[]} */
const PLOTS = [
  { id: "units_rate", title: "PostgreSQL statements", hint: "Units of work answered, each second",
    write: rate, value: ({ units }) => units },
  { id: "p99", title: "PostgreSQL p99", hint: "Time at the server; the fainter line is the p50",
    write: duration, value: ({ p99_s }) => p99_s, under: ({ p50_s }) => p50_s },
  { id: "commands_rate", title: "Redis commands", hint: "Read from clients, each second",
    write: rate, value: ({ commands }) => commands },
  { id: "hits", title: "Cache hit rate", hint: "Share of the cacheable reads answered here",
    write: percent, value: ({ hits }) => hits, top: 1 },
];

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

class Page {
  constructor() {
    this.history = new History();
    /** @type {Status | null} */
    this.status = null;
    this.heard_ms = 0; // of performance.now()
    this.contact = false;
    this.verdict = new Verdict(() => this.live.retry());
    this.saved = new Saved();
    this.sparks = PLOTS.map((plot) => new Spark(plot));
    this.incidents = new Incidents();
    this.postgres = list(byId("postgres-routes"), ({ name }) => name, postgres);
    this.redis = list(byId("redis-routes"), ({ name }) => name, redis);
    this.workers = workers();
    byId("verdict").append(this.verdict.root);
    byId("saved").append(this.saved.root);
    byId("sparks").append(...this.sparks.map(({ root }) => root));
    byId("incidents").append(this.incidents.root);
    byId("workers").append(this.workers.root);
    this.live = new Live({
      status: (status) => this.#heard(status),
      incident: (incident) => this.#incident(incident),
      lost: () => {
        this.contact = false;
        this.#tick();
      },
    });
  }

  start() {
    this.live.start();
    setInterval(() => this.#tick(), TICK_MS);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) {
        this.live.hide();
        return;
      }
      this.live.show();
      this.#draw();
      this.#tick();
    });
  }

  /** @param {Status} status */
  #heard(status) {
    if (this.status && this.status.version !== status.version) {
      location.reload(); // another Backstay, with another page
      return;
    }
    this.status = status;
    this.heard_ms = performance.now();
    this.contact = true;
    this.history.add(status);
    this.#draw();
    this.#tick();
  }

  /** One that has just begun, changed or ended: not to wait for the next status. @param {Incident} one */
  #incident(one) {
    if (!this.status) return;
    const others = this.status.incidents.filter(({ id }) => id !== one.id);
    this.status.incidents = [one, ...others].sort((a, b) => b.started_s - a.started_s);
    this.#draw();
  }

  #draw() {
    const status = this.status;
    if (!status || document.hidden) return;
    this.#verdict();
    this.saved.update(status);
    for (const [i, spark] of this.sparks.entries()) {
      spark.root.hidden = (i < 2 ? status.postgres : status.redis).length === 0;
      const kind = i < 2 ? "postgres" : "redis";
      spark.update(this.history.points, status.now_s,
        status.incidents.filter((one) => one.kind === kind));
    }
    this.incidents.update(status);
    this.postgres(status.postgres);
    this.redis(status.redis);
    this.workers.update(status);
    byId("postgres").hidden = status.postgres.length === 0;
    byId("redis").hidden = status.redis.length === 0;
    byId("content").hidden = false;
    put(byId("about"), `Backstay ${status.version}, up for ${span(status.uptime_s)}`);
    put(byId("reloaded"), reloaded(status));
  }

  #verdict() {
    if (this.status && this.#fresh()) this.verdict.update(this.status);
  }

  #fresh() {
    const old_ms = document.hidden ? STALE_HIDDEN_MS : STALE_MS;
    return this.contact && performance.now() - this.heard_ms < old_ms;
  }

  /** How fresh it all is: looked at more often than anything can come. */
  #tick() {
    const fresh = this.#fresh();
    const age_s = this.status ? (performance.now() - this.heard_ms) / 1000 : null;
    const stale = !fresh && (age_s === null ? this.live.fails > 0 : age_s * 1000 >= STALE_MS);
    attribute(document.body, "data-contact", fresh ? "live" : stale ? "stale" : "waiting");
    put(byId("contact-text"), this.#contact(fresh, stale, age_s));
    if (stale) {
      this.verdict.lost({
        age_s,
        at_s: this.status?.now_s ?? 0,
        error: this.live.error,
        next_s: (this.live.nextTry_ms - performance.now()) / 1000,
      });
    }
  }

  /** @param {boolean} fresh @param {boolean} stale @param {number | null} age_s */
  #contact(fresh, stale, age_s) {
    if (fresh) return this.live.streaming ? "Live" : "Live, every 2 s";
    if (age_s === null) return stale ? "No contact" : "Connecting";
    return stale ? `Stale for ${span(age_s)}` : "Reconnecting";
  }
}

/** @param {Status} status */
function reloaded({ reloaded_s, reload_problems, now_s }) {
  if (reload_problems.length) return `The last reload was refused: ${reload_problems.join("; ")}`;
  return reloaded_s ? `Settings read again at ${clock(reloaded_s, now_s)}` : "";
}

new Page().start();
