/** A card for each Redis route. */

import { attribute, el, put } from "./dom.js";
import { brief, bytes, count, percent, some } from "./format.js";
import { total } from "./history.js";
import { head, latencies, tally } from "./route.js";
import { fill, table } from "./table.js";
import { tile } from "./verdict.js";
import { BYPASSES, REASONS } from "./words.js";

/** @typedef {import("./types.js").RedisRoute} Route */
/** @typedef {import("./types.js").KeyCount} KeyCount */
/** @typedef {import("./types.js").Cache} Cache */

const KEYS_SHOWN = 5;

/** @param {Route} first */
export function redis(first) {
  const top = head("Redis");
  const parts = { tiles: tiles(), lag: latencies(), keys: keys() };
  const words = REASONS;
  const bypasses = tally({ caption: "Not answered from the cache", field: "bypassed",
    unit: "reads", empty: "Every read could be.", words: BYPASSES });
  const told = tally({ caption: "Errors answered by Backstay", field: "errors", unit: "errors",
    empty: "None.", words });
  const lost = tally({ caption: "Links lost", field: "losses", unit: "links", empty: "None.",
    words });
  const hint = el("p", { class: "start-here", hidden: true });
  const root = el("article", { class: "card route", "data-route": first.name }, top.root, hint,
    parts.tiles.root, parts.keys.root, el("div", { class: "columns" }, parts.lag.root,
      bypasses.root), el("div", { class: "columns" }, told.root, lost.root));
  return {
    root,
    /** @param {Route} route */
    update(route) {
      top.update(route);
      hint.hidden = route.clients > 0 || route.commands > 0;
      put(hint, `Nobody has connected yet: put ${route.listen[0] ?? "the listener"} into `
        + "REDIS_URL, and leave the rest of it as it is.");
      parts.tiles.update(route);
      parts.keys.update(route.cache);
      parts.lag.update(route.latency);
      bypasses.update(route.cache.bypassed);
      told.update(route.errors);
      lost.update(route.losses);
    },
  };
}

function tiles() {
  const clients = tile("Clients", "clients");
  const links = tile("Links", "links");
  const waiting = tile("Waiting", "waiting");
  const drops = tile("Drops absorbed", "drops", "good");
  const errors = tile("Errors answered", "errors");
  const rate = tile("Cache hit rate", "hit_rate", "good");
  const saved = tile("Reads saved", "reads_saved", "good");
  const store = tile("Entries", "entries");
  const bar = el("span", { class: "bar", "aria-hidden": "true" });
  store.root.append(bar);
  const all = [clients, links, waiting, drops, errors, rate, saved, store];
  const root = el("dl", { class: "tiles four" }, ...all.map((one) => one.root));
  return {
    root,
    /** @param {Route} route */
    update(route) {
      const { cache } = route;
      clients.set(brief(route.clients), `of ${count(route.clients_max)} at most`);
      links.set(brief(total(route.links)), Object.entries(route.links)
        .filter(([, n]) => n > 0).map(([name, n]) => `${count(n)} ${name}`).join(" · "));
      waiting.set(brief(route.waiting), "commands, while Redis is away",
        route.waiting ? "warning" : "");
      drops.set(brief(route.counts.absorbed ?? 0),
        `${some(route.counts.resent ?? 0, "command")} asked again`);
      const failed = total(route.errors);
      errors.set(brief(failed), "each said what became of it", failed ? "warning" : "");
      const looked = cache.hits + cache.misses + cache.coalesced;
      rate.set(percent(looked ? cache.hits / looked : null), off(cache)
        || `of ${some(looked, "cacheable read")}`, off(cache) ? "warning" : looked ? "good" : "");
      saved.set(brief(cache.hits + cache.coalesced),
        `${count(cache.coalesced)} of them joined a read under way`);
      store.set(brief(cache.entries), `${bytes(cache.bytes)} of ${bytes(cache.max_bytes)}`);
      fill(bar, cache.max_bytes > 0 ? cache.bytes / cache.max_bytes : null);
    },
  };
}

/** Why nothing is cached; empty: it is. @param {Cache} cache */
function off(cache) {
  if (!cache.enabled) return "the cache is switched off";
  return cache.refused && `off: ${cache.refused}`;
}

function keys() {
  const hot = ranking("Hot keys", "top_keys", "reads", "what is read most");
  const repeated = ranking("Read again within a second", "repeated_keys", "repeats",
    "by the same client: a cache per request would spare these");
  const missing = ranking("Missing again and again", "missing_keys", "misses",
    "no such key: is “not there” an answer the application could keep?");
  const refilled = ranking("Fetched again and again", "refilled_keys", "fetches",
    "changed or expired before it was read much");
  const all = [hot, repeated, missing, refilled];
  return {
    root: el("div", { class: "columns keys" }, hot.root, repeated.root, missing.root, refilled.root),
    /** @param {Cache} cache */
    update(cache) {
      hot.update(cache.top_keys);
      repeated.update(cache.repeated_keys);
      missing.update(cache.missing_keys);
      refilled.update(cache.refilled_keys);
    },
  };
}

/** The first keys of a list that comes largest first; the rest on demand.
 * @param {string} caption @param {string} field @param {string} unit @param {string} hint */
function ranking(caption, field, unit, hint) {
  let most = 1;
  let all = false;
  /** @type {KeyCount[]} */
  let known = [];
  /** @type {import("./table.js").Column<KeyCount>[]} */
  const columns = [
    { head: "Key", code: true, write: ({ shape }) => shape },
    { head: unit, numeric: true, write: (one) => count(one.count),
      share: (one) => one.count / most },
  ];
  const key = (/** @type {KeyCount} */ { shape }) => shape;
  const view = table({ caption, hint, field, key, columns, empty: "None." });
  const more = el("button", { type: "button", class: "more" });
  const show = () => {
    view.update(all ? known : known.slice(0, KEYS_SHOWN));
    more.hidden = known.length <= KEYS_SHOWN;
    attribute(more, "aria-expanded", String(all));
    put(more, all ? `Show the first ${KEYS_SHOWN} only` : `Show all ${count(known.length)}`);
  };
  more.addEventListener("click", () => {
    all = !all;
    show();
  });
  view.root.append(more);
  return {
    root: view.root,
    /** @param {KeyCount[]} counts */
    update(counts) {
      known = counts;
      most = counts[0]?.count || 1;
      show();
    },
  };
}
