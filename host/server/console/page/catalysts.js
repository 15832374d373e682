// What is installed, and what each can and cannot reach.

import { get } from "./api.js";
import { MANY, badge, byKind, bytes, code, count, empty, fill, h, notice, seconds, sync, time } from "./dom.js";

const MIB = 1024 * 1024;

function reach(row) {
  const said = !row.interface ? [h("span.muted", {}, "never: no import leads there")]
    : !row.imported ? [h("span.muted", {}, "not imported")]
    : [...row.granted.map((one) => h("p", {}, one)),
       ...row.asked.map((one) => h("p.asked", {}, one, " is asked for, not granted")),
       !row.granted.length && !row.asked.length && h("p.muted", {}, row.can ? "needs no grant" : "nothing is granted")];
  return h(`tr.${row.can ? "can" : "cannot"}`, {},
    h("th", { scope: "row", title: row.interface || null }, row.authority),
    h("td.yes", {}, h("span", { "aria-hidden": "true" }, row.can ? "●" : "○"), h("span", {}, row.can ? "yes" : "no")),
    h("td", {}, said));
}

function authority(found) {
  if (found.error) return h("p.refused", {}, found.error.message, found.error.hint && h("span.hint", {}, found.error.hint));
  const limits = found.limits;
  const never = found.authority.filter((row) => !row.interface);
  return [
    h("div.scroll", {}, h("table.reach", {}, h("tbody", {},
      found.authority.filter((row) => row.interface).map(reach),
      h("tr.cannot", {}, h("th", { scope: "row" }, "everything else"),
        h("td.yes", {}, h("span", { "aria-hidden": "true" }, "○"), h("span", {}, "no")),
        h("td", {}, h("span.muted", {}, `never: ${never.map((row) => row.authority).join(", ")}`)))))),
    h("p.limits", {}, `Each run: at most ${seconds(limits.timeout_s)} (${seconds(limits.stream_timeout_s)} for a stream), `,
      `${seconds(limits.cpu_time_s)} of CPU, `,
      `${count(Math.round(limits.max_memory_bytes / MIB))} MiB of memory, ${count(limits.max_http_requests)} requests.`,
      found.isolation === "key" ? " The operations of an API key share a sandbox, one after the other." : ""),
  ];
}

function operations(one) {
  if (!one.operations.length) return null;
  const play = `#/playground/${encodeURIComponent(one.reference)}`;
  const list = (some) => h("ul", {}, some.map((op) => h("li", { title: op.description || null },
    one.approved && !op.websocket ? h("a", { href: `${play}/${encodeURIComponent(op.name)}` }, op.name) : op.name,
    op.path && h("span.route", {}, `${op.method} ${op.path}`),
    op.stream && h("span.muted", {}, "streams"),
    op.websocket && h("span.muted", {}, "WebSocket"),
    op.secret && h("span.muted", {}, op.secret))));
  const folded = (title, some) => h("details.operations", {},
    h("summary", {}, `${title}${count(some.length)} operation${some.length === 1 ? "" : "s"}`), list(some));
  if (one.operations.length <= MANY) return folded("", one.operations);
  return [h("h3", {}, `${count(one.operations.length)} operations`),
    [...byKind(one.operations)].map(([kind, some]) => folded(`${kind}: `, some))];
}

function ill(health) {
  const check = health && health.check;
  if (check && check.state === "ill") return badge("deny", `its upstream is ill: ${check.cause}`);
  const some = (health && health.upstreams || []).filter(one => one.state === "ill");
  if (some.length) return badge("deny", `ill: ${some.map(one => `${one.upstream} (${one.cause})`).join(", ")}; another one serves`);
  return health && health.failed > 0 && badge("deny", `${count(health.failed)} of ${count(health.runs)} runs failed lately`);
}

function card(one, serving, open) {
  const body = h("div.body");
  const box = h("details.catalyst", {}, h("summary", {},
    h("span.name", {}, one.subject), h("span.version", {}, one.version),
    !one.approved && badge("deny", "waits for approval"), one.serves && badge("allow", one.pinned ? "serves, pinned" : "serves"),
    ill(one.health), h("span.about", {}, one.description)), body);
  box.addEventListener("toggle", () => { if (box.open && !body.firstChild) load(); });

  async function load() {
    fill(body, h("p.muted", {}, "Looking at what it can reach…"));
    try {
      const found = await get(`/catalysts/${encodeURIComponent(one.reference)}`);
      const fact = (title, ...value) => h("div", {}, h("dt", {}, title), h("dd", {}, ...value));
      fill(body,
        !one.approved && h("p.refused", {}, "These bytes were not approved, and do not run: ", code(`host approve ${one.reference}`), " shows what they ask for.",
          serving && ` Meanwhile ${serving.reference} (${serving.digest.slice(0, 19)}) serves.`),
        found.digest === one.digest && [h("h3", {}, "What it can reach"), authority(found)],
        h("dl.facts", {},
          h("div.wide", {}, h("dt", {}, "Digest"), h("dd", {}, code(one.digest))),
          h("div.wide", {}, h("dt", {}, "Source"), h("dd", {}, one.source)),
          fact("Size", bytes(one.size)), fact("Installed", time(one.registered_at)),
          one.license && fact("License", one.license)),
        operations(one));
    } catch (error) {
      fill(body, h("p.refused", {}, error.message));
    }
  }

  if (open) box.open = true;
  return box;
}

export function catalysts(place) {
  const list = h("div.catalysts");
  fill(place, h("h1", {}, "Catalysts"),
    h("p.lead", {}, "What each may do is what it imports, of that what its manifest asks for, and of that what was granted."), list);
  let known;

  async function refresh() {
    const found = await get("/catalysts");
    sync(found.now);
    const said = JSON.stringify(found.catalysts);
    if (said === known) return;
    if (known) notice("What is installed has changed.");
    known = said;
    if (!found.catalysts.length) {
      fill(list, empty("No catalyst is installed.", "Where the server runs: ", code("host register FILE"), " or ", code("host pull oci://…")));
      return;
    }
    const seen = new Set();
    const newestFirst = [...found.catalysts].sort((a, b) => b.registered_at - a.registered_at);
    fill(list, newestFirst.map((one) => {
      const isLatest = !seen.has(one.subject);
      seen.add(one.subject);
      return card(one, found.catalysts.find((other) => other.serves && other.subject === one.subject), isLatest && seen.size <= 3);
    }));
  }

  return { refresh };
}
