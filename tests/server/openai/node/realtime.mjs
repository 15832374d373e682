// The SDK's realtime client for browsers, whose key is a subprotocol: `node --experimental-websocket realtime.mjs URL`.
import OpenAI from "openai";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: process.argv[3], dangerouslyAllowBrowser: true });
const line = new OpenAIRealtimeWebSocket(
  { model: "gpt-realtime", dangerouslyAllowBrowser: true, onURL: (url) => { url.protocol = "ws:"; } },
  client,
);
let said = "";
line.on("session.created", (event) => {
  console.log(event.type);
  line.send({
    type: "response.create",
    response: { output_modalities: ["text"], instructions: "Say hello in 5 words" },
  });
});
line.on("response.output_text.delta", (event) => { said += event.delta; });
line.on("response.done", () => {
  console.log(said.split(" ").length);
  line.close();
});
line.on("error", (error) => { console.error(error); process.exit(1); });
