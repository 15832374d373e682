// The events of each row of a table and the error that ended them, in turns from two servers: JSON to standard output.
// The rows come on standard input: [{ name, operation, params, urls }]. The upstream knows a row by its name.
import OpenAI, { toFile } from "openai";

const calls = {
  "chat.completions.create": (sdk, params) => sdk.chat.completions.create(params),
  "responses.create": (sdk, params) => sdk.responses.create(params),
  "images.generate": (sdk, params) => sdk.images.generate(params),
  "audio.transcriptions.create": async (sdk, params) =>
    sdk.audio.transcriptions.create({ ...params, file: await toFile(Buffer.from("sound"), "a.mp3") }),
};

async function outcome(url, { operation, params }) {
  const sdk = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.KEY, maxRetries: 0, timeout: 30_000 });
  const events = [];
  try {
    for await (const event of await calls[operation](sdk, { ...params, stream: true })) events.push(event);
  } catch (error) {
    return { events, error: error.constructor.name };
  }
  return { events, error: "" };
}

let text = "";
for await (const piece of process.stdin) text += piece;
const found = {};
for (const row of JSON.parse(text)) {
  found[row.name] = [];
  for (const url of row.urls) found[row.name].push(await outcome(url, row));
}
console.log(JSON.stringify(found));
process.exit(0);
