/**
 * Elements, and lists that are brought up to date in place: focus, selection and what a reader has
 * opened survive each tick. Text goes in as text only; no markup is ever made from data.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes (`class`, `data-…`; true: empty, false or null: none) and children.
 * @param {string} tag
 * @param {Record<string, string | number | boolean | null>} [attributes]
 * @param {...(Node | string)} children
 */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. @param {string} tag
 * @param {Record<string, string | number | boolean | null>} [attributes]
 * @param {...(Node | string)} children */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** @template {Element} E @param {E} node
 * @param {Record<string, string | number | boolean | null>} attributes
 * @param {(Node | string)[]} children */
function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) attribute(node, name, value);
  node.append(...children);
  return node;
}

/** @param {Element} node @param {string} name @param {string | number | boolean | null} value */
export function attribute(node, name, value) {
  if (value === null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value === true ? "" : value)) {
    node.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Only a change is written: a reader may have selected it. @param {Node} node @param {string} text */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** One of the page's icons; decoration, as the words stand beside it. @param {string} name */
export function icon(name) {
  const use = svg("use", { href: `#icon-${name}` });
  return svg("svg", { class: "icon", "aria-hidden": "true" }, use);
}

/** @param {Element} node an `icon` @param {string} name */
export function change(node, name) {
  attribute(/** @type {Element} */ (node.firstChild), "href", `#icon-${name}`);
}

/**
 * @template T
 * @typedef {{root: Element, update: (item: T) => void}} View
 */

/**
 * The children of `parent`, one view for each item, kept by key. Nothing else may stand in it.
 * @template T
 * @param {Element} parent
 * @param {(item: T) => string} key
 * @param {(item: T) => View<T>} make
 * @returns {(items: T[]) => void}
 */
export function list(parent, key, make) {
  /** @type {Map<string, View<T>>} */
  let views = new Map();
  return (items) => {
    /** @type {Map<string, View<T>>} */
    const next = new Map();
    for (const item of items) {
      const name = key(item);
      const view = views.get(name) ?? make(item);
      view.update(item);
      next.set(name, view);
    }
    for (const [name, view] of views) if (!next.has(name)) view.root.remove();
    let place = parent.firstChild;
    for (const { root } of next.values()) {
      if (root === place) place = place.nextSibling;
      else parent.insertBefore(root, place);
    }
    views = next;
  };
}
