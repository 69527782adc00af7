/** What an incident came to, in a few words. Pure. */

import { some } from "./format.js";
import { total } from "./history.js";

/** @typedef {import("./types.js").Incident} Incident */
/** @typedef {import("./types.js").Level} Level */

/** @param {Incident} incident @returns {{level: Level, text: string}} */
export function outcome({ ended_s, errors }) {
  const told = total(errors);
  if (ended_s === null) {
    return { level: "critical", text: told ? `going on, ${some(told, "error")} so far` : "going on" };
  }
  return told ? { level: "warning", text: `${some(told, "error")} answered` }
    : { level: "good", text: "absorbed, no error" };
}
