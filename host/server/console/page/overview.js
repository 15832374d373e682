// What is running now, and what ran.

import { get, post } from "./api.js";
import { badge, count, empty, fill, h, keyed, notice, seconds, section, since, sync, table, time } from "./dom.js";

const WORDS = { ok: "done", failed: "failed", lost: "did not end", running: "running" };

export const outcome = (run) =>
  badge(run.state, run.state === "ok" || run.state === "failed" ? run.outcome : WORDS[run.state]);

const what = (run) => h("a.what", { href: `#/runs/${run.id}` },
  h("span.name", {}, run.caller.operation || "run"), h("span.by", {}, run.reference));

const who = (run) => h("span", { title: run.caller.key ? `key ${run.caller.key}` : null }, run.caller.name || "–");

const COLUMNS = [
  { title: "What", kind: "first" }, { title: "Key", kind: "key" }, { title: "Outcome", kind: "outcome" }, { title: "Took", kind: "number" },
  { title: "Requests", kind: "number.optional" }, { title: "Denied", kind: "number" }, { title: "Started", kind: "when" },
];

const RUNNING = [
  { title: "What", kind: "first" }, { title: "Key", kind: "key" }, { title: "For", kind: "number" }, { title: "Started", kind: "when" },
  { title: "", label: "Actions", kind: "actions" },
];

function row(run) {
  return h(`tr.${run.state}`, {},
    h("td.first", {}, what(run)),
    h("td.key", {}, who(run)),
    h("td.outcome", {}, outcome(run)),
    h("td.number", {}, seconds(run.duration_s)),
    h("td.number.optional", {}, count(run.requests)),
    h(`td.number${run.denied ? ".denied" : ".optional"}`, {}, count(run.denied)),
    h("td.when", {}, time(run.started_at)));
}

function going(run) {
  const button = h("button", { onclick: () => cancel(run, button), "aria-label": `Cancel run ${run.id}` }, "Cancel");
  return h("tr", {},
    h("td.first", {}, what(run)),
    h("td.key", {}, who(run)),
    h("td.number", {}, since(run.started_at)),
    h("td.when", {}, time(run.started_at)),
    h("td.actions", {}, button));
}

export async function cancel(run, button) {
  button.disabled = true;
  try {
    await post(`/runs/${encodeURIComponent(run.id)}/cancel`);
    fill(button, "Cancelling");
  } catch (error) {
    notice(error.message, "bad");
    button.disabled = false;
  }
}

export function overview(place) {
  const numbers = h("dl.numbers");
  const running = h("tbody");
  const recent = h("tbody");
  const none = h("div");
  const noRuns = h("div");
  const runningTable = table(RUNNING, running, "runs");
  const recentTable = table(COLUMNS, recent, "runs");
  const older = h("button.quiet", { hidden: true, onclick: () => more() }, "Show older runs");
  const only = h("input", { type: "checkbox", onchange: () => { earlier = []; refresh().catch((error) => notice(error.message, "bad")); } });
  let earlier = []; // runs from before those that are asked for anew

  fill(place,
    h("h1", { class: "hidden" }, "Overview"),
    numbers,
    section("Running now", none, runningTable),
    h("section", {},
      h("div.bar", {}, h("h2", {}, "Recent runs"), h("label.check", {}, only, "Failed only")),
      noRuns, recentTable, older));

  const number = (title, value, kind = "") => h(`div${kind}`, {}, h("dt", {}, title), h("dd", {}, count(value)));

  async function refresh() {
    const failed = only.checked;
    const [found, listed] = await Promise.all([get("/overview"), failed ? get("/runs?failed=true") : null]);
    sync(found.now);
    const today = found.today;
    fill(numbers,
      number("Running", found.running.length, found.running.length ? ".live" : ""),
      number("Requests today", today.requests),
      number("Failed today", today.failed, today.failed ? ".bad" : ""),
      number("Tokens today", today.tokens));
    keyed(running, found.running, (run) => run.id, going);
    runningTable.hidden = !found.running.length;
    fill(none, !found.running.length && empty("Nothing is running."));

    const fresh = failed ? listed.runs.filter((run) => run.state !== "running") : found.recent;
    const last = fresh.at(-1)?.seq ?? 0;
    const all = [...fresh, ...earlier.filter((run) => run.seq < last)];
    keyed(recent, all, (run) => run.id, row);
    recentTable.hidden = !all.length;
    older.hidden = fresh.length < 25 || older.dataset.done === String(failed);
    fill(noRuns, !all.length && (failed
      ? empty("No run has failed.")
      : empty("Nothing has run yet.", "Try one in the ", h("a", { href: "#/playground" }, "playground"), ", or send a request to /v1.")));
    shownLast = all.at(-1)?.seq;
  }

  let shownLast;
  async function more() {
    try {
      const found = await get(`/runs?before=${shownLast}${only.checked ? "&failed=true" : ""}`);
      earlier = [...earlier, ...found.runs.filter((run) => run.state !== "running")];
      if (!found.more) older.dataset.done = String(only.checked);
      await refresh();
    } catch (error) {
      notice(error.message, "bad");
    }
  }

  return { refresh };
}
