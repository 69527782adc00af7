/** Tables whose rows are brought up to date in place. */

import { el, list, put } from "./dom.js";

/**
 * @template T
 * @typedef {{head: string, write: (row: T) => string, numeric?: boolean,
 *   share?: (row: T) => number | null, note?: (row: T) => string, code?: boolean,
 *   title?: string, spare?: boolean}} Column
 *   `share`: 0 to 1, drawn as a bar under the text, null: none; `note`: a fainter second line; `spare`: left out where there is little room
 */

/**
 * The first column is the row's header. `empty`: what stands there instead of a table without rows.
 * @template T
 * @param {{caption: string, hint?: string, columns: Column<T>[], key: (row: T) => string,
 *   empty: string, field?: string, titled?: boolean}} options `titled`: a heading says the caption
 * @returns {{root: Element, update: (rows: T[]) => void}}
 */
export function table({ caption, hint = "", columns, key, empty, field = "", titled = false }) {
  const body = el("tbody");
  const nothing = el("p", { class: "nothing" }, empty);
  const heads = columns.map(({ head, numeric, title, spare }) => el("th", {
    scope: "col", class: classes(numeric, spare), title: title ?? null,
  }, head));
  const whole = el("table", {},
    el("caption", { class: titled ? "visually-hidden" : null }, caption, ...(hint ? [el("span", { class: "hint" }, hint)] : [])),
    el("thead", {}, el("tr", {}, ...heads)), body);
  const scroller = el("div", { class: "scroller" }, whole);
  const root = el("div", { class: "table", "data-table": field || null }, scroller, nothing);
  const name = el("p", { class: "caption" }, caption);
  nothing.before(name);
  const update = list(body, key, () => row(columns));
  return {
    root,
    update(rows) {
      update(rows);
      scroller.hidden = rows.length === 0;
      nothing.hidden = name.hidden = rows.length > 0;
      if (titled) name.hidden = true;
    },
  };
}

/** @param {boolean} [numeric] @param {boolean} [spare] */
const classes = (numeric, spare) => [numeric && "number", spare && "spare"].filter(Boolean).join(" ")
  || null;

/** @template T @param {Column<T>[]} columns */
function row(columns) {
  const cells = columns.map((column, i) => {
    const text = el(column.code ? "code" : "span", { class: "cell" });
    const note = column.note ? [el("small")] : [];
    const bar = column.share ? [el("span", { class: "bar", "aria-hidden": "true" })] : [];
    const cell = i === 0 ? el("th", { scope: "row" }, text, ...note, ...bar)
      : el("td", { class: classes(column.numeric, column.spare) }, text, ...note, ...bar);
    return { cell, text, note: note[0], bar: bar[0] };
  });
  return {
    root: el("tr", {}, ...cells.map(({ cell }) => cell)),
    /** @param {T} item */
    update(item) {
      for (const [i, { text, note, bar }] of cells.entries()) {
        const column = columns[i];
        put(text, column.write(item));
        if (note && column.note) put(note, column.note(item));
        if (bar && column.share) fill(bar, column.share(item));
      }
    },
  };
}

/** @param {HTMLElement} bar @param {number | null} share */
export function fill(bar, share) {
  bar.hidden = share === null;
  const text = `${(100 * Math.min(1, share ?? 0)).toFixed(1)}%`;
  if (bar.style.getPropertyValue("--share") !== text) bar.style.setProperty("--share", text);
}
