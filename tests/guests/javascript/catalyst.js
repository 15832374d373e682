// OpenAI's list of models and its chat completions, the second as a stream that is read to its end.

import { request as fetch } from "cyfr:http/fetch@0.1.0";
import { close, read, request as open } from "cyfr:http/streaming@0.1.0";
import { get } from "cyfr:secrets/read@0.1.0";

const API = "https://api.openai.com/v1";

class Failure extends Error {
  constructor(status, error) {
    super(error.message);
    this.envelope = { status, error };
  }
}

function secret(name) {
  try {
    return get(name);
  } catch (refusal) {
    throw new Failure(403, { type: "secret_denied", message: String(refusal.payload ?? refusal) });
  }
}

function call(send, method, path, body) {
  const headers = { authorization: `Bearer ${secret("OPENAI_API_KEY")}` };
  const request = { method, url: API + path, headers };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  const answer = JSON.parse(send(JSON.stringify(request)));
  if (answer.error) throw new Failure(502, answer.error);
  return answer;
}

function listModels() {
  const { status, body } = call(fetch, "GET", "/models");
  const document = JSON.parse(body);
  return status < 300 ? { status, data: document } : { status, error: document.error };
}

function* textOf(handle) {
  for (;;) {
    const piece = JSON.parse(read(handle));
    if (piece.error) throw new Failure(502, piece.error);
    if (piece.done) return;
    yield piece.data;
  }
}

function streamChat(params) {
  const { handle } = call(open, "POST", "/chat/completions", { ...params, stream: true });
  const chunks = [];
  let pending = ""; // the beginning of an event; at the end, an answer that was no stream: an error
  try {
    for (const text of textOf(handle)) {
      const events = (pending + text).split("\n\n");
      pending = events.pop();
      for (const event of events) {
        const data = event.replace(/^data: /, "");
        if (data && data !== "[DONE]") chunks.push(JSON.parse(data));
      }
    }
  } finally {
    close(handle);
  }
  if (pending) throw new Failure(502, JSON.parse(pending).error);
  const combined = chunks.map((chunk) => chunk.choices?.[0]?.delta?.content ?? "").join("");
  return { status: 200, data: { chunks, combined_text: combined } };
}

const operations = { "models.list": listModels, "chat.completions.create": streamChat };

function perform(input) {
  const { operation, params = {} } = JSON.parse(input);
  const act = Object.hasOwn(operations, operation) ? operations[operation] : undefined;
  if (!act) throw new Failure(400, { type: "unknown_operation", message: `no operation ${operation}` });
  return act(params);
}

export const run = {
  run(input) {
    try {
      return JSON.stringify(perform(input));
    } catch (error) {
      const envelope = error.envelope ?? { status: 500, error: { type: error.name, message: error.message } };
      return JSON.stringify(envelope);
    }
  },
};
