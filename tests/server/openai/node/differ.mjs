// The official Node SDK and an odd upstream. `node differ.mjs BASE_URL CONTROL_URL` reads [[scenario, call], …] from standard
// input, and prints one JSON object: for each scenario what the client saw. `POST CONTROL_URL/scenario` sets the upstream up.

import OpenAI, { toFile } from "openai";
import { readFileSync } from "node:fs";
import { createHash } from "node:crypto";

const [baseURL, control] = process.argv.slice(2);
const make = (maxRetries) => new OpenAI({ baseURL, apiKey: process.env.OPENAI_API_KEY, maxRetries, timeout: 20_000 });
const client = make(0);
const model = "gpt-4o-mini";
const messages = [{ role: "user", content: "Hi" }];
const wave = () => toFile(Buffer.from("RIFF0000WAVEfmt "), "speech.wav", { type: "audio/wav" });
const bytes = async (answer) => {
  const data = Buffer.from(await answer.arrayBuffer());
  return { size: data.length, sha256: createHash("sha256").update(data).digest("hex") };
};
const ofAPI = (headers) =>
  Object.fromEntries([...headers].filter(([name]) => /^(x-request-id|x-ratelimit-.*|openai-.*)$/.test(name)));

const calls = {
  chat: () => client.chat.completions.create({ model, messages }),
  chat_twice: () => make(1).chat.completions.create({ model, messages }),
  headers: async () => ofAPI((await client.chat.completions.create({ model, messages }).withResponse()).response.headers),
  chat_stream: () => client.chat.completions.create({ model, messages, stream: true }),
  completions_stream: () => client.completions.create({ model, prompt: "Hi", stream: true }),
  responses: () => client.responses.create({ model, input: "Hi" }),
  responses_stream: () => client.responses.create({ model, input: "Hi", stream: true }),
  embeddings: () => client.embeddings.create({ model, input: "Hi", encoding_format: "float" }),
  models: async () => (await client.models.list()).data,
  model: () => client.models.retrieve(model),
  moderation: () => client.moderations.create({ model, input: "Hi" }),
  image: () => client.images.generate({ model, prompt: "Hi" }),
  image_stream: () => client.images.generate({ model, prompt: "Hi", stream: true }),
  speech: async () => bytes(await client.audio.speech.create({ model, voice: "alloy", input: "Hi" })),
  content: async () => bytes(await client.files.content("file-1")),
  delete: () => client.files.delete("file-1"),
  files: async () => (await client.files.list()).data,
  transcription: async () => client.audio.transcriptions.create({ model, file: await wave() }),
  transcript: async () => client.audio.transcriptions.create({ model, file: await wave(), response_format: "text" }),
  transcription_stream: async () => client.audio.transcriptions.create({ model, file: await wave(), stream: true }),
};

const plain = (value) => JSON.parse(JSON.stringify(value, (_, one) => (typeof one === "number" ? String(one) : one)) ?? "null");

const seen = async (call) => {
  const events = [];
  try {
    const answer = await calls[call]();
    if (!answer || typeof answer[Symbol.asyncIterator] !== "function") return { answer: plain(answer) };
    for await (const event of answer) events.push(plain(event));
    return { events };
  } catch (error) {
    const { status, code, param, type, requestID } = error;
    const found = { kind: error.constructor.name, status, code, param, type, requestID, message: error.message };
    return plain({ events, error: found });
  }
};

const found = {};
for (const [name, call] of JSON.parse(readFileSync(0))) {
  await fetch(`${control}/scenario`, { method: "POST", body: name });
  found[name] = await seen(call);
  found[name].requests = Number(await (await fetch(`${control}/requests`, { method: "POST", body: "" })).text());
}
console.log(JSON.stringify(found));
