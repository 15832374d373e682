// What the page is made of. Text becomes a text node and nothing else, whoever wrote it.

// Control characters, and what reorders or hides text: shown by their numbers.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

const number = (char) => char.charCodeAt(0).toString(16).padStart(4, "0");

export const plain = (text) => String(text).replace(HIDDEN, (char) => `\\u${number(char)}`);

// JSON, in which those characters are escapes: what it says stays the same.
export const json = (value) => plain(JSON.stringify(value, null, 2));

// h("a.name", {href: "#/"}, "text", child, …): falsy children are left out.
export function h(what, properties = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "open") node[name] = value;
    else node.setAttribute(name, value === true ? "" : plain(value));
  }
  node.append(...nodes(children));
  return node;
}

export const nodes = (children) =>
  children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "")
    .map((child) => (child instanceof Node ? child : document.createTextNode(plain(child))));

export const fill = (node, ...children) => node.replaceChildren(...nodes(children));

// Makes the children of `parent` those of `items`, and keeps each node whose item has not changed: nothing jumps, and
// what has the focus keeps it.
export function keyed(parent, items, key, make) {
  const before = parent.keyed ?? new Map();
  const after = new Map();
  items.forEach((item, index) => {
    const id = key(item);
    const said = JSON.stringify(item);
    const known = before.get(id);
    const node = known?.said === said ? known.node : make(item);
    if (known && known.node !== node && known.node.contains(document.activeElement)) {
      const at = [...known.node.querySelectorAll("a, button")].indexOf(document.activeElement);
      known.node.replaceWith(node);
      [...node.querySelectorAll("a, button")][at]?.focus();
    }
    after.set(id, { said, node });
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  parent.keyed = after;
}

// Times: relative to the server's clock, which `sync` is told.

let ahead = 0;
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });
const ABSOLUTE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

export const sync = (serverNow) => { ahead = serverNow - Date.now() / 1000; };
export const now = () => Date.now() / 1000 + ahead;

function relative(at) {
  const seconds = at - now();
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return RELATIVE.format(Math.trunc(seconds / size), unit);
  }
  return Math.abs(seconds) < 5 ? "just now" : RELATIVE.format(Math.trunc(seconds), "second");
}

export function time(at) {
  const date = new Date(at * 1000);
  const title = `${ABSOLUTE.format(date)} (${Intl.DateTimeFormat().resolvedOptions().timeZone})`;
  return h("time", { datetime: date.toISOString(), title, "data-at": at }, relative(at));
}

// A duration that goes on: since `at`.
export const since = (at) => h("span.number", { "data-since": at }, seconds(now() - at));

export function tick() {
  for (const node of document.querySelectorAll("time[data-at]")) {
    const said = relative(Number(node.dataset.at));
    if (node.textContent !== said) node.textContent = said;
  }
  for (const node of document.querySelectorAll("[data-since]")) {
    node.textContent = seconds(now() - Number(node.dataset.since));
  }
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${Number.isInteger(value) ? value : value.toFixed(value < 10 ? 2 : 1)} s`;
  return `${Math.floor(value / 60)} min${value % 60 ? ` ${Math.floor(value % 60)} s` : ""}`;
}

const COUNT = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const count = (value) => (value < 100_000 ? COUNT : COMPACT).format(value);

export function bytes(value) {
  const units = ["B", "KB", "MB", "GB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) { value /= 1000; at += 1; }
  return `${at && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

// Small parts that several views have.

export const MANY = 40; // operations: more of them are shown by their kinds
export function byKind(operations) {
  const kinds = new Map();
  for (const one of operations) {
    const kind = one.name.split(".")[0];
    kinds.set(kind, [...(kinds.get(kind) ?? []), one]);
  }
  return kinds;
}

export const badge = (kind, text) => h(`span.badge.${kind}`, {}, text);
export const empty = (said, ...what) => h("div.empty", {}, h("p", {}, said), what.length && h("p.next", {}, ...what));
export const code = (text) => h("code", {}, text);

export function section(title, ...children) {
  return h("section", {}, h("h2", {}, title), ...children);
}

export function table(columns, body, kind) {
  return h("div.scroll", {},
    h(`table.${kind}`, {}, h("thead", {}, h("tr", {}, columns.map((one) =>
      h(`th${one.kind ? `.${one.kind}` : ""}`, { scope: "col", "aria-label": one.label }, one.title)))), body));
}

// `field("Name", input, "a hint")`
export function field(title, control, hint) {
  return h("label.field", {}, h("span.title", {}, title), control, hint && h("span.hint", {}, hint));
}

let last;
export function notice(text, kind = "info") {
  const box = document.getElementById("notices");
  fill(box, h(`p.notice.${kind}`, {}, text));
  clearTimeout(last);
  last = setTimeout(() => fill(box), kind === "bad" ? 12_000 : 4_000);
}

// A dialog; `content(close)` is what is in it. Returns once it is closed.
export function dialog(title, content) {
  return new Promise((resolve) => {
    const box = h("dialog", { "aria-label": title, onclose: () => { box.remove(); resolve(); } });
    box.append(h("h2", {}, title), ...nodes([content(() => box.close())]));
    document.body.append(box);
    box.showModal();
  });
}
