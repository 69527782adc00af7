/** The names of the API in plain words. Every name the proxy may send stands here (a test). */

/** What happened, as the end of a sentence; keys: proxy/core/reasons.py. */
export const REASONS = {
  client_closed: "the client closed its connection",
  client_lost: "the client's connection broke",
  client_protocol: "the client broke the protocol",
  client_too_slow: "the client did not read its answers",
  login_timeout: "the client did not finish its login in time",
  login_refused: "the login was refused",
  tls_failed: "the TLS handshake failed",
  upstream_eof: "the server, or something on the path, closed the link",
  upstream_reset: "the link was reset",
  upstream_fatal: "the server ended the session with FATAL",
  upstream_silent: "the link fell silent",
  upstream_protocol: "the server broke the protocol",
  upstream_refused: "the server refused the login",
  upstream_unreachable: "the server could not be reached",
  upstream_starting: "the server is starting up",
  upstream_full: "the server has no connection left",
  upstream_read_only: "the server is read-only",
  upstream_role: "the server has the wrong role (primary or standby)",
  link_too_old: "the link had reached its age",
  link_idle: "the link had been idle for too long",
  link_unclean: "the link could not be cleaned",
  link_evicted: "the link made room for another",
  hold_timeout: "the server was away for longer than hold_s",
  hold_full: "too many sessions waited already",
  pool_timeout: "no link came free in time",
  too_many_clients: "too many clients",
  state_not_restorable: "the session had state that cannot be rebuilt",
  restore_failed: "the session could not be rebuilt",
  outcome_unknown: "the outcome is unknown",
  rolled_back: "the transaction was rolled back",
  result_interrupted: "a result broke off",
  result_lost: "a result was lost",
  limit: "a bound was reached",
  command_timeout: "the command took too long",
  cancelled: "cancelled by the client",
  unsupported: "not supported by Backstay",
  paused: "an operator paused it",
  reconnect: "an operator asked for new links",
  killed: "an operator ended it",
  drain: "Backstay was draining",
  shutdown: "Backstay stopped",
  bug: "a bug in Backstay: please report it",
};

/** What an application was told, by SQLSTATE or by the first word of a Redis error. */
export const ERRORS = {
  "08007": "outcome unknown: it may have been saved",
  "40001": "rolled back: nothing was saved, run the transaction again",
  "25P02": "in a transaction that was lost, until its ROLLBACK",
  "08006": "a result broke off, or the server was away for too long",
  "57014": "cancelled while it waited; not executed",
  "57P01": "session ended: its state could not be rebuilt, or Backstay stopped",
  "57P03": "the server was away for too long to connect",
  "53300": "no connection left",
  "08P01": "the client broke the protocol",
  "54000": "a bound was reached",
  UPSTREAMDOWN: "not executed: Redis was away",
  UPSTREAMLOST: "outcome unknown: it may have run",
  EXECABORT: "transaction dropped before EXEC; nothing was executed",
};

/** Why it was safe to send a unit again; the certificates of proxy/postgres/protocol/verdict.py. */
export const CERTIFICATES = {
  unsent: "had not been sent (NS)",
  fatal: "the server’s FATAL proved that it was rolled back (FT)",
  read_only: "cannot write, ran again read-only (RO)",
  resent: "Redis commands: reads, and what had not been sent",
  harmless: "BEGIN, settings, or a transaction that never got a COMMIT (OT)",
};

/** Why a read was not answered from the cache; proxy/redis/protocol/insight.py. */
export const BYPASSES = {
  not_cacheable: "command that is never cached",
  order: "behind an unanswered command of the same client",
  excluded: "excluded by the settings",
  barrier: "a write to the key was under way",
  no_link: "no tracking link yet",
  refused: "tracking refused by the server",
  stalled: "tracking link silent for longer than the lease",
  too_late: "the fill took too long",
  too_big: "larger than max_entry_bytes",
  too_many_keys: "too many keys in one command",
  full: "too many reads in flight",
  transient: "Redis was loading or without its master",
};

/** @type {Record<string, string>} */
export const STATES = {
  up: "up",
  idle: "idle",
  ready: "ready",
  starting: "starting",
  paused: "paused",
  draining: "draining",
  away: "away",
};

/** The words for a name, or the name itself: an old page must not hide a new one.
 * @param {Record<string, string>} words @param {string} name */
export const say = (words, name) => (Object.hasOwn(words, name) ? words[name] : name);

/** @param {string} text */
export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) : text);
