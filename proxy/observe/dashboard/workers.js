/** The processes: what they cost, and whether they keep up. */

import { bytes, count, duration, span } from "./format.js";
import { table } from "./table.js";
import { STATES, say } from "./words.js";

/** @typedef {import("./types.js").Worker} Worker */
/** @typedef {{worker: Worker, now_s: number}} Row */

export function workers() {
  /** @type {ReturnType<typeof table<Row>>} */
  const view = table({
    caption: "Processes",
    field: "workers",
    titled: true,
    key: ({ worker }) => `${worker.number}`,
    empty: "No process has reported yet.",
    columns: [
      { head: "Process", write: ({ worker }) => `${worker.number}`,
        note: ({ worker }) => `pid ${worker.pid}` },
      { head: "State", spare: true, write: ({ worker }) => say(STATES, worker.state),
        note: ({ worker, now_s }) => `for ${span(now_s - worker.started_s)}` },
      { head: "Memory", numeric: true, write: ({ worker }) => bytes(worker.rss_bytes),
        note: ({ worker }) => `${count(worker.open_fds)} files open` },
      { head: "CPU", numeric: true, write: ({ worker }) => duration(worker.cpu_s),
        note: ({ worker, now_s }) => `${load(worker, now_s)} of a core` },
      { head: "Timer lag p99", numeric: true,
        title: "How late a timer of 100 ms fires, over the last minute or two: high means that the process does not keep up",
        write: ({ worker }) => duration(worker.recent_lag.p99_s),
        note: ({ worker }) => `longest ${duration(worker.loop_lag.max_s)}` },
      { head: "Bugs", numeric: true, write: ({ worker }) => count(worker.bugs),
        note: ({ worker }) => worker.log_lines_dropped
          ? `${count(worker.log_lines_dropped)} log lines dropped` : "" },
    ],
  });
  return {
    root: view.root,
    /** @param {import("./types.js").Status} status */
    update: ({ workers: all, now_s }) => view.update(all.map((worker) => ({ worker, now_s }))),
  };
}

/** @param {Worker} worker @param {number} now_s */
function load({ cpu_s, started_s }, now_s) {
  const whole = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
  return whole.format(cpu_s / Math.max(1, now_s - started_s));
}
