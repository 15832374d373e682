// The server's API, asked with the session that the browser has.

const BASE = new URL("api", import.meta.url).pathname; // wherever the server is mounted
let token = "";
let whenSignedOut = () => {};

const sentence = (text) => text && `${text[0].toUpperCase()}${text.slice(1)}.`;

export class Refused extends Error {
  constructor(status, error) {
    super([error.message, error.hint].filter(Boolean).map(sentence).join(" "));
    this.status = status;
    this.field = error.param;
  }
}

export const onSignedOut = (then) => { whenSignedOut = then; };
export const holdToken = (text) => { token = text ?? ""; };

async function ask(method, path, body, signal) {
  const headers = { accept: "application/json" };
  if (method !== "GET") headers["x-csrf-token"] = token;
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(BASE + path, {
    method,
    headers,
    signal,
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "same-origin",
    cache: "no-store",
  });
  if (!response.ok) throw await refusal(response, path);
  return response;
}

async function refusal(response, path) {
  let error;
  try {
    error = (await response.json()).error;
  } catch {
    error = null;
  }
  if (response.status === 401 && path !== "/session") whenSignedOut();
  return new Refused(response.status, error ?? { message: `the server answered ${response.status}` });
}

export const get = async (path) => (await ask("GET", path)).json();
export const post = async (path, body = {}) => (await ask("POST", path, body)).json();
export const remove = async (path) => (await ask("DELETE", path)).json();

// Calls `each` with every line of JSON, as it arrives.
export async function lines(path, body, each, signal) {
  const response = await ask("POST", path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (held + value).split("\n");
    held = parts.pop();
    for (const part of parts) each(JSON.parse(part));
  }
}
