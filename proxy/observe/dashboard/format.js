/** Numbers, durations, sizes and times as text, in the reader's own notation. Pure. */

const SPACE = "\u00a0"; // a number and its unit stay on one line
export const NONE = "–"; // not known

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const three = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const tenth = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const share = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const hour = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const minute = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** @param {number} n */
export const count = (n) => whole.format(n);

/** A count that must stay narrow: 1.2M. @param {number} n */
export const brief = (n) => (Math.abs(n) < 1e6 ? whole : short).format(n);

/** "3 links". @param {number} n @param {string} noun @param {string} [many] */
export const some = (n, noun, many = `${noun}s`) =>
  `${count(n)}${SPACE}${n === 1 ? noun : many}`;

/** "12 of 1,000". @param {number} n @param {number} max */
export const of = (n, max) => (max > 0 ? `${count(n)} of ${count(max)}` : count(n));

/** Events per second. @param {number | null} n */
export const rate = (n) =>
  n === null ? NONE : `${(n < 10 ? tenth : whole).format(n)}${SPACE}/s`;

/** Never rounded up to all: 99.97 % is "99.9 %". @param {number | null} x 0 to 1 */
export const percent = (x) =>
  x === null ? NONE : share.format(x < 1 ? Math.floor(x * 1000) / 1000 : x);

/** A latency, three digits: "42 µs", "1.25 ms", "3.1 s". @param {number | null} s */
export function duration(s) {
  if (s === null) return NONE;
  if (s === 0) return `0${SPACE}ms`;
  if (s < 0.000_999_5) return `${three.format(s * 1e6)}${SPACE}µs`;
  if (s < 0.999_5) return `${three.format(s * 1e3)}${SPACE}ms`;
  return s < 60 ? `${three.format(s)}${SPACE}s` : span(s);
}

/** A length of time in two units at most: "12 s", "3 min 20 s", "2 d 4 h". @param {number} s */
export function span(s) {
  const total = Math.max(0, Math.floor(s));
  /** @type {[number, string][]} */
  const units = [[Math.floor(total / 86400), "d"], [Math.floor(total / 3600) % 24, "h"],
    [Math.floor(total / 60) % 60, "min"], [total % 60, "s"]];
  const first = units.findIndex(([n]) => n > 0);
  if (first < 0) return `0${SPACE}s`;
  return units.slice(first, first + 2).filter(([n]) => n > 0)
    .map(([n, unit]) => `${count(n)}${SPACE}${unit}`).join(" ");
}

/** @param {number} n */
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = n < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(n) / 10));
  return `${(step ? three : whole).format(n / 1024 ** step)}${SPACE}${units[step]}`;
}

/** Time of day, with the date unless it is of the day of `now_s`. Unix times.
 * @param {number} t_s @param {number} now_s */
export function clock(t_s, now_s) {
  const then = new Date(t_s * 1000);
  const same = then.toDateString() === new Date(now_s * 1000).toDateString();
  return (same ? hour : day).format(then);
}

/** For an axis that is `span_s` long. @param {number} t_s @param {number} span_s */
export function tick(t_s, span_s) {
  if (span_s < 900) return hour.format(t_s * 1000);
  return (span_s <= 86400 ? minute : day).format(t_s * 1000);
}
