/** The last five minutes, kept in the page: rates, quantiles and shares between samples. Pure. */

/** @typedef {import("./types.js").Status} Status */

export const WINDOW_S = 300;
const SMOOTH_S = 3; // a rate is over so long, so that one second more or less does not jump
const TAIL_S = 5; // a p99 needs more to stand on

/** @typedef {{t_s: number, units: number, server: number[], commands: number, hits: number,
 *   reads: number}} Sample all but t_s only grow, until the proxy starts anew */

/** @param {Status} status @returns {Sample} */
export function sample(status) {
  const { postgres, redis } = status;
  return {
    t_s: status.now_s,
    units: sum(postgres, (route) => route.counts.units ?? 0),
    server: status.bounds_s.concat(0).map((_, i) => (
      sum(postgres, (route) => route.latency.server.counts[i]))),
    commands: sum(redis, (route) => route.commands),
    hits: sum(redis, (route) => route.cache.hits),
    reads: sum(redis, (route) => route.cache.hits + route.cache.misses + route.cache.coalesced),
  };
}

/** @template T @param {T[]} items @param {(item: T) => number} value */
export const sum = (items, value) => items.reduce((total, item) => total + value(item), 0);

/** @param {Record<string, number>} counts */
export const total = (counts) => Object.values(counts).reduce((all, n) => all + n, 0);

/**
 * The duration that `share` of all do not exceed; as Histogram.quantile_s, but without a longest.
 * @param {number[]} counts @param {number[]} bounds_s @param {number} share 0 to 1
 * @returns {number | null} seconds; null if nothing was counted
 */
export function quantile(counts, bounds_s, share) {
  const wanted = share * counts.reduce((all, n) => all + n, 0);
  if (wanted === 0) return null;
  let below = 0;
  for (const [i, n] of counts.entries()) {
    if (n > 0 && below + n >= wanted) {
      const low = i ? bounds_s[i - 1] : 0;
      return low + ((bounds_s[i] ?? low) - low) * (wanted - below) / n;
    }
    below += n;
  }
  return bounds_s[bounds_s.length - 1];
}

/** @typedef {{t_s: number, units: number | null, commands: number | null,
 *   p50_s: number | null, p99_s: number | null, hits: number | null}} Point null: not known */

export class History {
  constructor() {
    /** @type {Sample[]} */
    this.samples = [];
    /** @type {Point[]} */
    this.points = [];
  }

  /** @param {Status} status */
  add(status) {
    const now = sample(status);
    const last = this.samples.at(-1);
    if (last && now.t_s <= last.t_s) return; // a late answer
    if (last && (now.units < last.units || now.commands < last.commands)) this.samples = [];
    this.samples.push(now);
    this.points.push(this.#point(now, status.bounds_s));
    const first_s = now.t_s - WINDOW_S;
    // Where they come slowly, the one before this is what there is to compare with.
    this.samples = this.samples.filter(({ t_s }, i, all) => t_s >= now.t_s - 2 * TAIL_S
      || i === all.length - 2);
    this.points = this.points.filter(({ t_s }) => t_s >= first_s);
  }

  /** @param {Sample} now @param {number[]} bounds_s @returns {Point} */
  #point(now, bounds_s) {
    const near = this.#before(now.t_s - SMOOTH_S);
    const far = this.#before(now.t_s - TAIL_S);
    const took_s = now.t_s - near.t_s;
    const reads = now.reads - near.reads;
    const server = now.server.map((n, i) => n - far.server[i]);
    return {
      t_s: now.t_s,
      units: took_s > 0 ? (now.units - near.units) / took_s : null,
      commands: took_s > 0 ? (now.commands - near.commands) / took_s : null,
      p50_s: quantile(server, bounds_s, 0.5),
      p99_s: quantile(server, bounds_s, 0.99),
      hits: reads > 0 ? (now.hits - near.hits) / reads : null,
    };
  }

  /** The youngest sample that is at least so old, or the oldest. @param {number} t_s */
  #before(t_s) {
    return this.samples.findLast((one) => one.t_s <= t_s) ?? this.samples[0];
  }
}
