// The page: signing in, and which view is shown.

import { get, holdToken, onSignedOut, post, remove } from "./api.js";
import { fill, h, notice, tick } from "./dom.js";
import { overview } from "./overview.js";
import { run } from "./run.js";
import { catalysts } from "./catalysts.js";
import { keys } from "./keys.js";
import { playground } from "./playground.js";

const VIEWS = { overview, runs: run, catalysts, keys, playground };
const TABS = [["overview", "Overview"], ["catalysts", "Catalysts"], ["keys", "Keys"], ["playground", "Playground"]];
const EVERY_MS = 2000;
const root = document.getElementById("root");

let shown = null; // {refresh, leave}, of the view that is there
let session = null;

async function start() {
  leave();
  for (const box of document.querySelectorAll("dialog")) box.close();
  try {
    session = await get("/session");
  } catch (error) {
    fill(root, lone("The server cannot be asked", h("p", {}, error.message), h("button.primary", { onclick: start }, "Try again")));
    return;
  }
  holdToken(session.token);
  if (!session.configured) fill(root, firstKey(session.command));
  else if (!session.signed_in) fill(root, signIn());
  else signedIn();
}

const lone = (title, ...content) =>
  h("main.lone", {}, h("div.card", {}, h("p.brand", {}, mark(), "Catalyst host"), h("h1", {}, title), ...content));

const mark = () => h("span.mark", { "aria-hidden": "true" });

function firstKey(command) {
  return lone("There is no key yet",
    h("p", {}, "This console is for whoever has an admin key. Make one where the server runs, as the user that runs it:"),
    h("pre.command", {}, command),
    h("p.hint", {}, "It is shown once. From then on the server asks everybody for a key."),
    h("button.primary", { onclick: start }, "I have made one"));
}

function signIn() {
  const input = h("input", {
    type: "password", name: "key", autocomplete: "current-password", required: true, spellcheck: "false",
    placeholder: "host_ak_…", "aria-describedby": "refused",
  });
  const refused = h("p.refused", { id: "refused", role: "alert" });
  const button = h("button.primary", { type: "submit" }, "Sign in");
  const form = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      fill(refused);
      try {
        session = await post("/session", { key: input.value });
        holdToken(session.token);
        input.value = "";
        signedIn();
      } catch (error) {
        fill(refused, error.message);
        input.select();
      } finally {
        button.disabled = false;
      }
    },
  }, h("label.field", {}, h("span.title", {}, "Admin key"), input), refused, button);
  queueMicrotask(() => input.focus());
  return lone("Sign in", form,
    h("p.hint", {}, "A key of the type admin. To make one, where the server runs:"),
    h("pre.command", {}, "host key create --name admin --type admin"));
}

function signedIn() {
  const main = h("main", { id: "main", tabindex: "-1" });
  const tabs = h("nav", { "aria-label": "Views" }, TABS.map(([name, title]) => h("a", { href: `#/${name}`, "data-tab": name }, title)));
  fill(root,
    h("header", {},
      h("a.brand", { href: "#/overview" }, mark(), h("span", {}, "Catalyst host")),
      tabs,
      h("div.who", {},
        h("span.key", { title: `key ${session.key.id}` }, session.key.name),
        h("button.quiet", { onclick: signOut }, "Sign out"))),
    main);
  show();
}

async function signOut() {
  try {
    await remove("/session");
  } catch (error) {
    notice(error.message, "bad");
  }
  start();
}

function leave() {
  shown?.leave?.();
  shown = null;
}

function show() {
  const main = document.getElementById("main");
  if (!main) return;
  leave();
  const [, name = "overview", ...rest] = (location.hash || "#/overview").split("/");
  const view = VIEWS[name] ?? overview;
  const tab = name === "runs" ? "overview" : name;
  for (const link of document.querySelectorAll("[data-tab]")) {
    if (link.dataset.tab === tab) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${TABS.find(([one]) => one === tab)?.[1] ?? "Overview"} · Catalyst host`;
  const content = h("div.view");
  fill(main, content);
  shown = view(content, rest.map(decodeURIComponent), session);
  refresh();
}

let asking = false;
async function refresh() {
  const view = shown;
  if (!view?.refresh || asking || document.hidden) return;
  asking = true;
  try {
    await view.refresh();
    document.body.classList.remove("stale");
  } catch (error) {
    if (error.status !== 401 && view === shown) {
      document.body.classList.add("stale");
      notice(error.message === "Failed to fetch" ? "The server does not answer; trying again." : error.message, "bad");
    }
  } finally {
    asking = false;
  }
  if (view !== shown) refresh();
}

window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", refresh);
setInterval(() => { if (shown?.live !== false) refresh(); }, EVERY_MS);
setInterval(tick, 1000);
onSignedOut(() => { notice("The session is over: sign in again.", "bad"); start(); });
start();
