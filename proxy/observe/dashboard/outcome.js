/** What an incident came to, in a few words. Pure. */

import { some } from "./format.js";
import { total } from "./history.js";

/** @typedef {import("./types.js").Incident} Incident */
/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Level} Level */

/**
 * An incident is kept open for a moment after everybody is served, as the next loss may follow.
 * @param {Incident} incident @param {Status} status @returns {{level: Level, text: string}}
 */
export function outcome({ route, kind, ended_s, errors }, status) {
  const told = total(errors);
  if (ended_s === null) {
    const routes = kind === "redis" ? status.redis : status.postgres;
    const at = routes.find(({ name }) => name === route);
    const calm = at !== undefined && at.state !== "away" && at.waiting === 0;
    const now = calm ? "served again" : "going on";
    const level = !calm ? "critical" : told ? "warning" : "info";
    return { level, text: told ? `${now}, ${some(told, "error")} so far` : now };
  }
  return told ? { level: "warning", text: `${some(told, "error")} answered` }
    : { level: "good", text: "absorbed, no error" };
}
