// The official Node SDK against the gateway: each exercise is a function of the client, named for what it calls.
// `node exercise.mjs BASE_URL` prints one JSON object: for each exercise null, or what went wrong.

import OpenAI, { APIUserAbortError, toFile } from "openai";
import assert from "node:assert/strict";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any-key", maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello" }];
const wave = () => toFile(Buffer.from("RIFF0000WAVEfmt "), "speech.wav", { type: "audio/wav" });

const exercises = {
  async chat() {
    const answer = await client.chat.completions.create({ model: "gpt-4o-mini", messages });
    assert.ok(answer.choices[0].message.content);
    assert.ok(answer.usage.total_tokens > 0);
  },
  async chatStreamed() {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true }))
      text += chunk.choices[0]?.delta?.content ?? "";
    assert.ok(text);
  },
  async chatLeft() {
    const stream = await client.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
  },
  async completions() {
    const answer = await client.completions.create({ model: "gpt-3.5-turbo-instruct", prompt: "Once" });
    assert.ok(answer.choices[0].text);
  },
  async responses() {
    const made = await client.responses.create({ model: "gpt-4o-mini", input: "Hello" });
    assert.ok(made.output_text);
    assert.equal((await client.responses.retrieve(made.id)).id, made.id);
    await client.responses.delete(made.id);
    await assert.rejects(client.responses.retrieve(made.id), OpenAI.NotFoundError);
  },
  async responsesStreamed() {
    const types = [];
    for await (const event of await client.responses.create({ model: "gpt-4o-mini", input: "Hello", stream: true }))
      types.push(event.type);
    assert.equal(types[0], "response.created");
    assert.equal(types.at(-1), "response.completed");
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.ok(ids.includes("gpt-4o-mini"));
    assert.equal((await client.models.retrieve("gpt-4o-mini")).id, "gpt-4o-mini");
  },
  async embeddings() {
    const made = await client.embeddings.create({ model: "text-embedding-3-small", input: ["a", "b"], dimensions: 8 });
    assert.deepEqual(made.data.map((one) => one.embedding.length), [8, 8]);
  },
  async moderations() {
    assert.equal((await client.moderations.create({ input: "hello" })).results[0].flagged, false);
  },
  async images() {
    const made = await client.images.generate({ model: "dall-e-3", prompt: "a cat", response_format: "b64_json" });
    assert.ok(made.data[0].b64_json);
  },
  async speech() {
    const answer = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Hello" });
    assert.equal(answer.headers.get("content-type"), "audio/mpeg");
    assert.ok((await answer.arrayBuffer()).byteLength > 100);
  },
  async transcriptions() {
    assert.ok((await client.audio.transcriptions.create({ model: "whisper-1", file: await wave() })).text);
  },
  async translations() {
    assert.ok((await client.audio.translations.create({ model: "whisper-1", file: await wave() })).text);
  },
  async files() {
    const file = await toFile(Buffer.from('{"a": 1}\n'), "notes.jsonl");
    const made = await client.files.create({ file, purpose: "batch" });
    assert.equal(made.filename, "notes.jsonl");
    assert.equal((await client.files.retrieve(made.id)).bytes, 9);
    assert.equal(await (await client.files.content(made.id)).text(), '{"a": 1}\n');
    const ids = [];
    for await (const one of client.files.list({ limit: 5 })) ids.push(one.id);
    assert.ok(ids.includes(made.id));
    assert.equal((await client.files.delete(made.id)).deleted, true);
  },
  async chatHelper() {
    let text = "";
    const stream = client.chat.completions.stream({ model: "gpt-4o-mini", messages });
    stream.on("content", (delta) => { text += delta; });
    assert.equal(await stream.finalContent(), text);
    assert.ok((await stream.finalChatCompletion()).choices[0].finish_reason);
  },
  async chatTools() {
    const asked = [];
    const weather = {
      type: "function",
      function: {
        name: "weather",
        parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
        parse: JSON.parse,
        function: (given) => { asked.push(given); return "sunny"; },
      },
    };
    const runner = client.chat.completions.runTools(
      { model: "gpt-4o-mini", messages, tools: [weather], tool_choice: { type: "function", function: { name: "weather" } } },
      { maxChatCompletions: 2 },
    );
    await runner.done();
    assert.equal(typeof asked[0].city, "string");
    assert.ok(runner.messages.some((one) => one.role === "tool" && one.content === "sunny"));
  },
  async responsesHelper() {
    let text = "";
    const stream = client.responses.stream({ model: "gpt-4o-mini", input: "Hello" });
    stream.on("response.output_text.delta", (event) => { text += event.delta; });
    assert.equal((await stream.finalResponse()).output_text, text);
  },
  async assistants() {
    const assistant = await client.beta.assistants.create({ model: "gpt-4o" });
    const thread = await client.beta.threads.create({ messages });
    let text = "";
    const stream = client.beta.threads.runs.stream(thread.id, { assistant_id: assistant.id });
    stream.on("textDelta", (delta) => { text += delta.value; });
    assert.equal((await stream.finalRun()).status, "completed");
    assert.equal((await stream.finalMessages())[0].content[0].text.value, text);
  },
  async mistakes() {
    await assert.rejects(client.chat.completions.create({ model: "gpt-4o-mini" }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "messages");
      return true;
    });
  },
  async aborts() {
    const controller = new AbortController();
    const asked = client.models.list({ signal: controller.signal });
    controller.abort();
    await assert.rejects(asked, APIUserAbortError);
  },
};

const failed = {};
for (const [name, exercise] of Object.entries(exercises)) {
  try {
    await exercise();
    failed[name] = null;
  } catch (error) {
    failed[name] = String(error?.stack ?? error);
  }
}
console.log(JSON.stringify(failed));
