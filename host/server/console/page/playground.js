// One operation of one catalyst: run from here, its events shown as they arrive.

import { get, lines, post } from "./api.js";
import { MANY, badge, byKind, bytes, code, count, empty, field, fill, h, json, notice, plain, seconds, since, now } from "./dom.js";

const MOST_SHOWN = 500; // events; what comes later is counted

// The words in an event of OpenAI's: of the first choice of a chat or of a completion, of the Responses API.
function words(event) {
  if (typeof event?.delta === "string" && String(event.type).endsWith("output_text.delta")) return event.delta;
  const choice = event?.choices?.find?.((one, at) => (one?.index ?? at) === 0);
  const text = choice?.delta?.content ?? choice?.text;
  return typeof text === "string" ? text : "";
}

// What tells one event from the next.
const SAME = new Set(["id", "object", "created", "model", "system_fingerprint", "service_tier", "obfuscation"]);
function brief(event) {
  const word = words(event);
  if (word) return h("span.word", {}, word);
  if (event?.type) return event.type;
  return JSON.stringify(event, (name, value) => (SAME.has(name) || value === null ? undefined : value)) ?? "";
}

// The whole of it is made once somebody opens it.
function eventLine(event, at) {
  const whole = h("pre");
  const box = h("details", { ontoggle: () => { if (box.open && !whole.firstChild) fill(whole, json(event)); } }, h("summary", {}, brief(event)), whole);
  return h("li", {}, h("span.at", {}, `+${seconds(at)}`), box);
}

const base64 = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
  reader.readAsDataURL(file);
});

function save(attachment, id) {
  if (attachment.data === null) return h("span.muted", {}, " (too large to be shown here)");
  const data = Uint8Array.from(atob(attachment.data), (char) => char.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([data], { type: "application/octet-stream" }));
  return h("a", { href: url, download: attachment.filename || id }, "Save");
}

function schemaOf(schema) {
  const properties = Object.entries(schema?.properties ?? {});
  if (!properties.length) return null;
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  return h("details.schema", {}, h("summary", {}, `${count(properties.length)} parameters`),
    h("dl", {}, properties.map(([name, one]) => h("div", {},
      h("dt", {}, code(name), required.has(name) && badge("own", "required"),
        h("span.muted", {}, [one?.type ?? ""].flat().filter((kind) => kind !== "null").join(" or "))),
      h("dd", {}, typeof one?.description === "string" ? one.description : "")))));
}

export function playground(place, [wanted, operation]) {
  const catalyst = h("select", { name: "catalyst" });
  const op = h("select", { name: "operation" });
  const about = h("p.hint.about");
  const schema = h("div");
  const params = h("textarea", { name: "params", spellcheck: "false", rows: 14, autocomplete: "off", autocapitalize: "off" });
  const stream = h("input", { type: "checkbox", name: "stream" });
  const streams = h("label.check", {}, stream, "Stream the answer");
  const files = h("input", { type: "file", multiple: true, name: "files", onchange: () => mention() });
  const filed = h("div");
  const refused = h("p.refused", { role: "alert" });
  const go = h("button.primary", { type: "submit" }, "Run");
  const stop = h("button.danger", { type: "button", hidden: true, onclick: () => end() }, "Stop");
  const status = h("dl.facts.status");
  const text = h("div.text", { "aria-live": "polite", "aria-label": "Answer" });
  const events = h("ol.events");
  const answer = h("div");
  const output = h("div.output", {}, status, text, answer, events);
  const form = h("form.ask", { onsubmit: (event) => { event.preventDefault(); play(); } },
    field("Catalyst", catalyst), field("Operation", op), about,
    field("Parameters", params), schema, filed,
    h("div.bar", {}, streams, h("span.spring"), stop, go), refused);
  fill(place, h("h1", { class: "hidden" }, "Playground"), h("div.playground", {}, form, output));
  fill(output, empty("Nothing has run here yet.", "Choose an operation and press Run; what comes back appears here as it arrives."));

  let all = [];
  let running = null; // {id, abort}
  let serial = 0; // of the choice of an operation
  let looking = false; // what it takes: until that is known, nothing runs
  let typed = 0; // the choice since which parameters were typed

  catalyst.addEventListener("change", () => operations());
  op.addEventListener("change", () => chosen());
  params.addEventListener("input", () => { typed = serial; });
  params.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !go.disabled) form.requestSubmit();
  });

  async function load() {
    all = (await get("/catalysts")).catalysts.filter((one) => one.approved);
    if (!all.length) {
      fill(place, h("h1", {}, "Playground"), empty("There is nothing to run.", "Install a catalyst where the server runs: ", code("host register FILE")));
      return;
    }
    fill(catalyst, all.map((one) => h("option", { value: one.reference }, one.reference)));
    const first = all.find((one) => one.reference === wanted) 
      ?? [...all].sort((a, b) => (b.operations.length > 0) - (a.operations.length > 0) || b.registered_at - a.registered_at)[0];
    catalyst.value = first.reference;
    await operations(operation);
  }

  async function operations(name) {
    const found = all.find((one) => one.reference === catalyst.value);
    const playable = found.operations.filter((one) => !one.websocket);
    const options = (some) => some.map((one) => h("option", { value: one.name }, one.name));
    fill(op, playable.length <= MANY ? options(playable)
      : [...byKind(playable)].map(([kind, some]) => h("optgroup", { label: kind }, options(some))),
      !playable.length && h("option", { value: "" }, "none: it takes its input as it is"));
    const first = playable.find((one) => one.name === found.example) ?? playable.find((one) => one.stream) ?? playable[0];
    op.value = playable.some((one) => one.name === name) ? name : first?.name ?? "";
    if (op.value) await chosen();
    else asItIs();
  }

  function ready() {
    go.disabled = looking || running !== null;
  }

  function asItIs() {
    serial += 1;
    looking = false;
    ready();
    fill(about);
    fill(schema);
    fill(filed);
    params.value = "{}";
    streams.hidden = true;
  }

  async function chosen() {
    const asked = (serial += 1);
    looking = true;
    ready();
    try {
      const found = await get(`/catalysts/${encodeURIComponent(catalyst.value)}/operations/${encodeURIComponent(op.value)}`);
      if (asked !== serial) return;
      fill(about, found.description, found.path && h("span.route", {}, `${found.method} ${found.path}`));
      if (typed !== asked) params.value = json(found.starting);
      streams.hidden = !found.stream;
      stream.checked = found.stream;
      files.value = "";
      fill(filed, found.request === "multipart" && field("Files", files, 'each is put in place of the first parameter that is null or "", as {"$attachment": its name}'));
      fill(schema, schemaOf(found.schema));
      fill(refused);
    } catch (error) {
      fill(refused, error.message);
    } finally {
      if (asked === serial) looking = false;
      ready();
    }
  }

  function mention() {
    let given;
    try {
      given = JSON.parse(params.value || "{}");
    } catch {
      return;
    }
    for (const file of files.files) {
      const open = Object.keys(given).find((name) => given[name] === null || given[name] === "" || given[name]?.$attachment !== undefined);
      given[open ?? "file"] = { $attachment: file.name };
    }
    params.value = json(given);
  }

  async function attached() {
    const found = {};
    for (const file of filed.contains(files) ? files.files : []) {
      found[file.name] = { data: await base64(file), filename: file.name, content_type: file.type };
    }
    return found;
  }

  async function play() {
    fill(refused);
    let given;
    try {
      given = JSON.parse(params.value || "{}");
    } catch (error) {
      fill(refused, `The parameters are not JSON: ${error.message}`);
      params.focus();
      return;
    }
    const abort = new AbortController();
    const mine = { id: null, abort, began: now(), count: 0 };
    running = mine;
    ready();
    stop.hidden = false;
    stop.disabled = false;
    fill(text);
    fill(answer);
    fill(events);
    fill(output, status, text, answer, events);
    state(mine, badge("running", "running"), since(mine.began));
    try {
      const body = {
        reference: catalyst.value, operation: op.value, params: given, stream: !streams.hidden && stream.checked, files: await attached(),
      };
      await lines("/playground", body, (line) => arrived(mine, line), abort.signal);
      if (!mine.ended) state(mine, badge("failed", "broken off"), seconds(now() - mine.began));
    } catch (error) {
      if (mine.count || mine.id) state(mine, badge("failed", error.name === "AbortError" ? "stopped" : "broken off"), seconds(now() - mine.began));
      else fill(output, h("p.refused", {}, error.message));
      if (error.name !== "AbortError" && error.status === undefined) notice(error.message, "bad");
    } finally {
      running = null;
      ready();
      stop.hidden = true;
    }
  }

  function state(mine, outcome, took, tokens) {
    const fact = (title, ...value) => h("div", {}, h("dt", {}, title), h("dd", {}, ...value));
    fill(status,
      fact("Outcome", outcome), fact("Took", took),
      fact("Events", h("span.number", { "data-events": true }, count(mine.count))),
      fact("Tokens", tokens ? `${count(tokens.input)} in, ${count(tokens.output)} out` : "–"),
      h("div.wide", {}, h("dt", {}, "Run"), h("dd", {}, mine.id ? h("a", { href: `#/runs/${mine.id}` }, code(mine.id)) : "–")));
  }

  function arrived(mine, line) {
    if (line.run !== undefined) {
      mine.id = line.run;
      state(mine, badge("running", "running"), since(mine.began));
    } else if ("waiting" in line) {
      return;
    } else if ("event" in line) {
      mine.count += 1;
      if (mine.count <= MOST_SHOWN) {
        events.append(eventLine(line.event, now() - mine.began));
      }
      text.append(plain(words(line.event)));
      const counted = status.querySelector("[data-events]");
      if (counted) counted.textContent = count(mine.count);
    } else {
      mine.ended = true;
      finished(mine, line);
    }
  }

  function finished(mine, line) {
    if (line.error) {
      const stopped = line.error.type === "cancelled";
      state(mine, badge(stopped ? "lost" : "failed", stopped ? "stopped" : line.error.type), seconds(line.duration_s), line.tokens);
      if (!stopped) fill(answer, h("p.refused", {}, line.error.message), line.error.hint && h("p.hint", {}, line.error.hint));
      return;
    }
    const { attachments, ...result } = line.result;
    const good = result.status >= 200 && result.status < 300;
    state(mine, badge(good ? "ok" : "failed", result.status), seconds(line.duration_s), line.tokens);
    const saved = Object.entries(attachments).map(([id, one]) =>
      h("p", {}, `${one.content_type || "bytes"}, ${bytes(one.size)}: `, save(one, id)));
    fill(answer, saved, (!mine.count || !good) && h("pre", {}, json(good ? result.data : result.error)));
  }

  async function end() {
    const mine = running;
    if (!mine) return;
    stop.disabled = true;
    try {
      if (!mine.id) throw new Error("not begun");
      await post(`/runs/${encodeURIComponent(mine.id)}/cancel`);
    } catch {
      mine.abort.abort();
    }
  }

  load().catch((error) => { if (error.status !== 401) notice(error.message, "bad"); });
  return { live: false, leave: () => running?.abort.abort() };
}
