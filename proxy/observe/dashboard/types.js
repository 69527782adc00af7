/**
 * The shapes of /api/v1/status, for editors and readers: proxy/core/report.py as JSON.
 * Durations are in seconds, sizes in bytes, times Unix times. Nothing here runs.
 *
 * @typedef {{count: number, sum_s: number, max_s: number, p50_s: number, p90_s: number,
 *   p99_s: number, counts: number[]}} Histogram
 *
 * @typedef {{wait: Histogram, server: Histogram, proxy: Histogram, outage: Histogram,
 *   restore: Histogram, connect: Histogram}} Latency
 *
 * @typedef {Record<string, number>} Counts
 *
 * @typedef {{user: string, database: string, sessions_active: number, sessions_idle: number,
 *   sessions_waiting: number, links_active: number, links_idle: number, links_opening: number,
 *   links_max: number, longest_wait_s: number}} Pool
 *
 * @typedef {{name: string, listen: string[], upstream: string[], state: State, reason: string,
 *   away_s: number, clients: number, clients_max: number, waiting: number, waiting_max: number,
 *   counts: Counts, losses: Counts, errors: Counts, latency: Latency}} Route
 *
 * @typedef {Route & {pools: Pool[], pooler: boolean}} PostgresRoute
 *
 * @typedef {{shape: string, count: number}} KeyCount
 *
 * @typedef {{enabled: boolean, refused: string, entries: number, bytes: number,
 *   max_bytes: number, hits: number, negative_hits: number, misses: number, coalesced: number,
 *   stale_served: number, saved_repeats: number, invalidations: number, evictions: number,
 *   bypassed: Counts, top_keys: KeyCount[], repeated_keys: KeyCount[],
 *   missing_keys: KeyCount[], refilled_keys: KeyCount[]}} Cache
 *
 * @typedef {Route & {links: Counts, partitions: number, commands: number, cache: Cache}} RedisRoute
 *
 * @typedef {{number: number, pid: number, state: string, started_s: number, loop_lag: Histogram,
 *   recent_lag: Histogram, cpu_s: number, rss_bytes: number, open_fds: number, tasks: number, bugs: number,
 *   log_lines_dropped: number}} Worker
 *
 * @typedef {{id: string, route: string, kind: string, reason: string, upstream: string,
 *   last_words: string, started_s: number, ended_s: number | null, losses: number,
 *   sessions: number, longest_wait_s: number, replayed: Counts, errors: Counts,
 *   outage_s: number}} Incident
 *
 * @typedef {"up" | "idle" | "paused" | "draining" | "away"} State
 * @typedef {"good" | "info" | "warning" | "critical" | "unknown"} Level
 * @typedef {{level: "critical" | "warning" | "info", route: string, text: string,
 *   advice: string}} Finding
 *
 * @typedef {{version: string, state: string, reloaded_s: number, reload_problems: string[],
 *   workers: Worker[], postgres: PostgresRoute[], redis: RedisRoute[], incidents: Incident[],
 *   now_s: number, uptime_s: number, bounds_s: number[], well: boolean, summary: string,
 *   findings: Finding[],
 *   saved: {drops_absorbed: number, errors_answered: number, reads_saved: number}}} Status
 */

export {};
