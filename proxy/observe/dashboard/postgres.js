/** A card for each PostgreSQL route. */

import { el, put } from "./dom.js";
import { brief, count, duration, of } from "./format.js";
import { sum, total } from "./history.js";
import { head, latencies, tally } from "./route.js";
import { table } from "./table.js";
import { tile } from "./verdict.js";
import { REASONS } from "./words.js";

/** @typedef {import("./types.js").PostgresRoute} Route */
/** @typedef {import("./types.js").Pool} Pool */

/** What the counters call a unit that was sent again, by certificate. */
const AGAIN = ["resent_unsent", "resent_fatal", "replayed_read_only", "resent_harmless"];

/** @param {Route} first */
export function postgres(first) {
  const top = head("PostgreSQL");
  const clients = tile("Clients", "clients");
  const waiting = tile("Waiting", "waiting");
  const drops = tile("Drops absorbed", "drops", "good");
  const again = tile("Ran again", "again");
  const errors = tile("Errors answered", "errors");
  const lag = latencies();
  const links = pools();
  const told = tally({ caption: "Errors answered by Backstay", field: "errors", unit: "errors",
    empty: "None.", words: REASONS });
  const lost = tally({ caption: "Links lost", field: "losses", unit: "links",
    empty: "None.", words: REASONS });
  const hint = el("p", { class: "start-here", hidden: true });
  const root = el("article", { class: "card route", "data-route": first.name }, top.root, hint,
    el("dl", { class: "tiles" }, ...[clients, waiting, drops, again, errors].map((one) => one.root)),
    el("div", { class: "columns" }, links.root, lag.root),
    el("div", { class: "columns" }, told.root, lost.root));
  return {
    root,
    /** @param {Route} route */
    update(route) {
      top.update(route);
      const fresh = route.clients === 0 && !route.counts.units;
      hint.hidden = !fresh;
      put(hint, `Nobody has connected yet: put ${route.listen[0] ?? "the listener"} into `
        + "DATABASE_URL, and leave the rest of it as it is.");
      const failed = total(route.errors);
      clients.set(brief(route.clients), `of ${count(route.clients_max)} at most`);
      waiting.set(brief(route.waiting), `of ${count(route.waiting_max)} at most, for a link`,
        route.waiting ? "warning" : "");
      drops.set(brief(route.counts.absorbed ?? 0), "sessions whose client saw nothing of it");
      again.set(brief(sum(AGAIN, (name) => route.counts[name] ?? 0)),
        "statements, each with a proof that it may");
      errors.set(brief(failed), "each said what became of the work", failed ? "warning" : "");
      lag.update(route.latency);
      links.update(route.pools);
      told.update(route.errors);
      lost.update(route.losses);
    },
  };
}

function pools() {
  /** @type {ReturnType<typeof table<Pool>>} */
  const view = table({
    caption: "Pools",
    hint: "one for each user and database",
    field: "pools",
    key: ({ user, database }) => JSON.stringify([user, database]),
    empty: "No pool yet: one opens for each user and database that connects.",
    columns: [
      { head: "User, database", write: ({ user }) => user, note: ({ database }) => database },
      {
        head: "Links",
        write: (pool) => of(pool.links_active + pool.links_idle + pool.links_opening,
          pool.links_max),
        note: linksOf,
        share: (pool) => pool.links_max > 0
          ? (pool.links_active + pool.links_idle + pool.links_opening) / pool.links_max : null,
      },
      {
        head: "Sessions",
        write: (pool) => count(pool.sessions_active + pool.sessions_idle + pool.sessions_waiting),
        note: sessionsOf,
      },
    ],
  });
  return view;
}

/** @param {Pool} pool */
const linksOf = (pool) => [`${count(pool.links_active)} active`, `${count(pool.links_idle)} idle`,
  ...(pool.links_opening ? [`${count(pool.links_opening)} opening`] : [])].join(" · ");

/** @param {Pool} pool */
const sessionsOf = (pool) => [`${count(pool.sessions_active)} active`,
  `${count(pool.sessions_idle)} idle`,
  ...(pool.sessions_waiting ? [`${count(pool.sessions_waiting)} waiting, the longest for `
    + duration(pool.longest_wait_s)] : [])].join(" · ");
