// API keys: who may use this server, for what and how much, and what each has used.

import { get, holdToken, post } from "./api.js";
import { badge, code, count, dialog, empty, field, fill, h, keyed, notice, sync, table, time } from "./dom.js";

const SCOPES = {
  public: ["run"],
  secret: ["run", "runs", "components", "metrics"],
  admin: ["run", "runs", "components", "metrics", "manage"],
};
const BY_DEFAULT = { public: ["run"], secret: ["run", "runs", "components"], admin: SCOPES.admin };
const DAY = 86_400;
const COLUMNS = [
  { title: "Key", kind: "first" }, { title: "May", kind: "may" }, { title: "Limits", kind: "limits" },
  { title: "Requests", kind: "number" }, { title: "Failed", kind: "number" }, { title: "Tokens", kind: "number" },
  { title: "14 days", kind: "spark" }, { title: "", label: "Actions", kind: "actions" },
];

function used(usage, id) {
  const days = usage.days.map(() => ({ requests: 0, failed: 0, tokens: 0 }));
  for (const row of usage.rows) {
    const at = usage.days.indexOf(row.day);
    if (row.key !== id || at < 0) continue;
    days[at].requests += row.requests;
    days[at].failed += row.failed;
    days[at].tokens += row.input_tokens + row.output_tokens;
  }
  return days;
}

const SVG = "http://www.w3.org/2000/svg";
function spark(days, names) {
  const most = Math.max(...days.map((day) => day.requests), 1);
  const svg = document.createElementNS(SVG, "svg");
  const total = days.reduce((sum, day) => sum + day.requests, 0);
  const set = (node, values) => Object.entries(values).forEach(([name, value]) => node.setAttribute(name, value));
  set(svg, { viewBox: "0 0 84 24", width: 84, height: 24, role: "img", "aria-label": `${total} requests in 14 days` });
  days.forEach((day, at) => {
    const bar = (value, y, kind) => {
      const rect = document.createElementNS(SVG, "rect");
      set(rect, { x: at * 6, y: y - value, width: 5, height: value, class: kind });
      const title = document.createElementNS(SVG, "title");
      title.textContent = `${names[at]}: ${count(day.requests)} requests, ${count(day.failed)} failed, ${count(day.tokens)} tokens`;
      rect.append(title);
      svg.append(rect);
    };
    const all = day.requests ? Math.max(2, (22 * day.requests) / most) : 1;
    const bad = day.failed ? Math.max(2, (22 * day.failed) / most) : 0;
    bar(all, 24, day.requests ? "ok" : "none");
    if (bad) bar(bad, 24, "bad");
  });
  return svg;
}

function limits(key) {
  const said = [
    key.rate_limit && `${key.rate_limit} requests`,
    key.request_budget && `budget ${key.request_budget} requests`,
    key.token_budget && `budget ${key.token_budget} tokens`,
    key.operations ? `operations ${key.operations.join(", ")}` : key.type === "public" && "operations that are public, or read",
    key.models.length > 0 && `models ${key.models.join(", ")}`,
    key.catalysts.length > 0 && key.catalysts.join(", "),
    key.ip_allowlist.length > 0 && `from ${key.ip_allowlist.join(", ")}`,
  ].filter(Boolean);
  return said.length ? said.map((one) => h("p", {}, one)) : h("span.muted", {}, "no limits");
}

function when(key) {
  if (key.state === "revoked") return ["revoked ", time(key.revoked_at)];
  if (key.expires_at) return [key.state === "expired" ? "expired " : "expires ", time(key.expires_at)];
  return ["made ", time(key.created_at)];
}

export function keys(place, _, session) {
  const body = h("tbody");
  const list = table(COLUMNS, body, "keys");
  const none = h("div");
  const others = h("p.hint");
  fill(place,
    h("div.bar", {}, h("h1", {}, "Keys"), h("button.primary", { onclick: () => make() }, "New key")),
    h("p.lead", {}, "Requests, failures and tokens are today's, in UTC."),
    none, list, others);

  async function refresh() {
    const [found, usage] = await Promise.all([get("/keys"), get("/usage")]);
    sync(found.now);
    const order = { active: 0, expired: 1, revoked: 2 };
    const all = found.keys
      .map((key) => ({ key, days: used(usage, key.id), names: usage.days }))
      .sort((a, b) => order[a.key.state] - order[b.key.state] || b.key.created_at - a.key.created_at);
    keyed(body, all, (one) => one.key.id, row);
    list.hidden = !all.length;
    fill(none, !all.length && empty("There are no keys."));
    const nobody = used(usage, "").at(-1);
    fill(others, nobody.requests > 0 && `Without a key, today: ${count(nobody.requests)} requests, ${count(nobody.tokens)} tokens.`);
  }

  function row({ key, days, names }) {
    const today = days.at(-1);
    const own = key.id === session.key.id;
    return h(`tr.${key.state}`, {},
      h("td.first", {}, h("div.what", {},
        h("span.name", {}, key.name, " ", key.state !== "active" && badge(key.state, key.state), own && badge("own", "this session")),
        h("span.by", {}, `${key.type} · `, code(key.id), " · ", when(key)))),
      h("td.may", {}, key.scopes.join(", ")),
      h("td.limits", {}, limits(key)),
      h("td.number", { "data-title": "requests" }, count(today.requests)),
      h(`td.number${today.failed ? ".denied" : ""}`, { "data-title": "failed" }, count(today.failed)),
      h("td.number", { "data-title": "tokens" }, count(today.tokens)),
      h("td.spark", {}, spark(days, names)),
      h("td.actions", {}, key.state === "active" && [
        h("button", { onclick: () => rotate(key), "aria-label": `Rotate ${key.name}` }, "Rotate"),
        h("button.danger", { onclick: () => revoke(key, own), "aria-label": `Revoke ${key.name}` }, "Revoke")]));
  }

  const again = () => refresh().catch((error) => notice(error.message, "bad"));

  async function make() {
    let made = null;
    await dialog("New key", (close) => form(async (given) => { made = await post("/keys", given); close(); }, close));
    if (made) await told(made, "This is the key's text. It is shown once, and kept nowhere.");
    again();
  }

  async function rotate(key) {
    let made = null;
    const overlap = h("select", { name: "overlap" },
      h("option", { value: 0 }, "ends now"), h("option", { value: 3600 }, "works for an hour more"), h("option", { value: DAY }, "works for a day more"));
    await dialog(`Rotate ${key.name}`, (close) => asking(
      [h("p", {}, "The key gets a new text."), field("The one before", overlap)], "Rotate", close,
      async () => { made = await post(`/keys/${key.id}/rotate`, { overlap_s: Number(overlap.value) }); close(); }));
    if (made?.session) holdToken(made.session.token);
    if (made) await told(made, "This is the key's new text. It is shown once, and kept nowhere.");
    again();
  }

  async function revoke(key, own) {
    await dialog(`Revoke ${key.name}`, (close) => asking(
      h("p", {}, "Whoever uses it is refused from now on. This cannot be taken back.", own && " You signed in with this key, and are signed out by this."),
      "Revoke", close,
      async () => { await post(`/keys/${key.id}/revoke`); close(); notice(`${key.name} is revoked.`); }, "danger"));
    again();
  }

  return { refresh };
}

function asking(content, word, close, act, kind = "primary") {
  const refused = h("p.refused", { role: "alert" });
  const button = h(`button.${kind}`, { type: "submit" }, word);
  return h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      fill(refused);
      try {
        await act();
      } catch (error) {
        fill(refused, error.message);
        event.target.querySelector(`[name="${CSS.escape(error.field ?? "")}"]`)?.focus();
      } finally {
        button.disabled = false;
      }
    },
  }, content, refused, h("div.buttons", {}, h("button.quiet", { type: "button", onclick: close }, "Cancel"), button));
}

function form(create, close) {
  const text = (name, placeholder = "") => h("input", { name, placeholder, autocomplete: "off", spellcheck: "false" });
  const name = text("name", "ci");
  name.required = true;
  const type = h("select", { name: "type", onchange: () => scopesOf() },
    h("option", { value: "secret" }, "secret: for a program"), h("option", { value: "public" }, "public: reads, or runs what you allow below"),
    h("option", { value: "admin" }, "admin: may manage"));
  const scopes = h("div.checks");
  const scopesOf = () => fill(scopes, SCOPES[type.value].map((scope) => h("label.check", {},
    h("input", { type: "checkbox", name: "scopes", value: scope, checked: BY_DEFAULT[type.value].includes(scope) }), scope)));
  scopesOf();
  const lists = { operations: text("operations", "chat.*, models.list"), models: text("models", "gpt-*, o3"), catalysts: text("catalysts", "c:local.openai"), ip_allowlist: text("ip_allowlist", "10.0.0.0/8") };
  const amounts = { rate_limit: text("rate_limit", "100/1m"), request_budget: text("request_budget", "10k/1d"), token_budget: text("token_budget", "2M/30d") };
  const expires = h("select", { name: "expires_at" }, [["", "never"], [DAY, "in a day"], [7 * DAY, "in a week"],
    [30 * DAY, "in 30 days"], [90 * DAY, "in 90 days"], [365 * DAY, "in a year"]].map(([value, said]) => h("option", { value }, said)));
  const items = (input) => input.value.split(/[\s,]+/).filter(Boolean);

  return asking([
    h("div.two", {}, field("Name", name), field("Type", type)),
    h("fieldset", {}, h("legend", {}, "It may"), scopes),
    h("div.three", {}, field("Rate limit", amounts.rate_limit, "requests"), field("Request budget", amounts.request_budget, "requests"),
      field("Token budget", amounts.token_budget, "tokens")),
    field("Operations", lists.operations, "all where empty; for a public key those that its catalyst marks, or that read"),
    h("div.two", {}, field("Models", lists.models, "any where empty"), field("Catalysts", lists.catalysts, "any where empty")),
    h("div.two", {}, field("From addresses", lists.ip_allowlist, "any where empty"), field("Expires", expires)),
  ], "Create", close, () => create({
    name: name.value.trim(),
    type: type.value,
    scopes: [...scopes.querySelectorAll("input:checked")].map((one) => one.value),
    ...Object.fromEntries(Object.entries(amounts).map(([key, input]) => [key, input.value.trim()])),
    ...Object.fromEntries(Object.entries(lists).map(([key, input]) => [key, items(input)])),
    expires_in_s: expires.value ? Number(expires.value) : null,
  }));
}

function told(made, words) {
  return dialog(made.key.name, (close) => {
    const input = h("input.secret", { value: made.text, readonly: true, "aria-label": "The key", onfocus: () => input.select() });
    const copy = h("button", {
      onclick: async () => {
        input.select();
        try {
          await navigator.clipboard.writeText(made.text);
          fill(copy, "Copied");
        } catch {
          fill(copy, "Press Ctrl+C");
        }
      },
    }, "Copy");
    return [h("p", {}, words), h("div.copy", {}, input, copy), h("div.buttons", {}, h("button.primary", { onclick: close }, "I have kept it"))];
  });
}
