// One run: what it was, and everything that is on record of it.

import { get } from "./api.js";
import { cancel, outcome } from "./overview.js";
import { badge, bytes, code, count, fill, h, json, keyed, seconds, section, since, sync, time } from "./dom.js";

const KINDS = {
  "run.started": "started", "run.ended": "ended", "http.request": "HTTP", "secret.use": "secret",
  "secret.reveal": "secret revealed", "run.refused": "refused", log: "log",
  "http.waited": "waits", "http.given_up": "gave up", "breaker.opened": "circuit opened",
  "breaker.probed": "circuit probed", "breaker.closed": "circuit closed",
};

// What of a record's detail makes its line; the rest is below it.
function line(record) {
  const detail = record.detail;
  switch (record.kind) {
    case "http.request":
      return [h("span.method", {}, detail.method ?? ""), " ", detail.url ?? detail.subject ?? "", detail.status ? ` → ${detail.status}` : ""];
    case "secret.use":
    case "secret.reveal":
      return [detail.secret ?? detail.subject ?? detail.name ?? ""];
    case "log":
      return [detail.level ? `${detail.level}: ` : "", detail.message ?? ""];
    case "run.ended":
      return [detail.error ? `in ${detail.error}` : `with status ${detail.status}`];
    case "run.refused":
    case "http.given_up":
      return [record.rule];
    case "http.waited":
      return [`${detail.wait_s} s: ${record.rule}`];
    case "breaker.opened":
    case "breaker.probed":
    case "breaker.closed":
      return [detail.origin ?? ""];
    case "run.started":
      return [detail.caller?.operation ?? detail.reference ?? ""];
    default:
      return [detail.subject ?? ""];
  }
}

function record(began) {
  return (one) => h(`li.${one.decision ?? "plain"}`, {},
    h("span.at", { title: new Date(one.at * 1000).toISOString() }, `+${seconds(Math.max(0, one.at - began))}`),
    h("span.kind", {}, KINDS[one.kind] ?? one.kind),
    h("span.decision", {}, one.decision && badge(one.decision, one.decision === "deny" ? "denied" : "allowed")),
    h("div.said", {},
      h("p", {}, line(one)),
      one.rule && h("p.rule", {}, one.rule),
      h("details", {}, h("summary", {}, `record ${one.seq}`), h("pre", {}, json(one.detail)))));
}

// Why it failed: the error, what is long of it below, and the last lines of the guest's log.
function failed(why) {
  if (!why) return null;
  const { message, type, traceback, stderr, hint, blame, ...more } = why.error ?? {};
  const rest = Object.entries(more).filter(([, value]) => value !== null && value !== "");
  return [
    h("p.refused", {}, h("strong", {}, type ?? "error"), message && `: ${message}`, hint && h("span.hint", {}, hint)),
    rest.length > 0 && h("p.hint", {}, rest.map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ")),
    [traceback, stderr].filter(Boolean).map((text) => h("pre", {}, text)),
    why.logs?.length > 0 && [
      h("h3", {}, "What it logged"),
      why.dropped > 0 && h("p.hint", {}, `${count(why.dropped)} lines before these are not kept`),
      h("pre", {}, why.logs.map(([level, text]) => `${level}: ${text}`).join("\n")),
    ],
  ];
}

export function run(place, [id]) {
  const head = h("div.head");
  const facts = h("dl.facts");
  const list = h("ol.records");
  const rest = h("p.hint");
  const why = h("div.failure");
  fill(place,
    h("p.back", {}, h("a", { href: "#/overview" }, "Overview")),
    head, facts, why, section("Decisions, in order", list, rest));
  const view = { refresh, live: true };

  async function refresh() {
    const found = await get(`/runs/${encodeURIComponent(id)}`);
    sync(found.now);
    const one = found.run;
    const began = one?.started_at ?? found.records[0]?.at ?? 0;
    const said = JSON.stringify(one);
    if (head.dataset.said !== said) {
      head.dataset.said = said;
      show(one, found.records);
      fill(why, failed(found.failure));
    }
    keyed(list, found.records, (record) => record.seq, record(began));
    fill(rest, found.more > 0 && `and ${count(found.more)} more: host runs show ${id}`);
    view.live = one?.state === "running";
  }

  function show(one, records) {
    if (!one) {
      fill(head, h("h1", {}, id), h("p.hint", {}, "The beginning of its record was pruned."));
      return;
    }
    const button = one.state === "running" && h("button.danger", { onclick: () => cancel(one, button) }, "Cancel");
    fill(head, h("h1", {}, one.operation || "Run"), outcome(one), button);
    const ended = records.find((record) => record.kind === "run.ended")?.detail ?? {};
    const fact = (title, ...value) => h("div", {}, h("dt", {}, title), h("dd", {}, ...value));
    fill(facts,
      fact("Took", one.state === "running" ? since(one.started_at) : seconds(one.duration_s)),
      fact("CPU time", seconds(ended.cpu_time_s)),
      fact("HTTP requests", count(one.requests)),
      fact("Denied", one.denied ? h("span.denied", {}, count(one.denied)) : "0"),
      fact("Sent", ended.sent_bytes === undefined ? "–" : bytes(ended.sent_bytes)),
      fact("Received", ended.received_bytes === undefined ? "–" : bytes(ended.received_bytes)),
      one.model && fact("Model", one.model),
      one.input_tokens !== null && fact("Tokens", `${count(one.input_tokens)} in, ${count(one.output_tokens)} out`),
      fact("Started", time(one.started_at)),
      fact("Key", one.caller.name || "none"),
      fact("By", one.caller.via || "the command line"),
      h("div.wide", {}, h("dt", {}, "Catalyst"), h("dd", {}, code(one.reference))),
      h("div.wide", {}, h("dt", {}, "Run"), h("dd", {}, code(one.id))));
  }

  return view;
}
