// Every method of the official Node SDK twice with the same arguments: of a client of the upstream, and of one of the
// gateway. Standard input is { clients: { direct, through }, rows: [{ name, path, params }] }: options of clients, and of
// each operation its name in Python, the names in its path and its arguments by their names in the API. Prints one JSON
// object: for each operation "" or what went wrong with { direct, through }, or null where the SDK has no such method.

import OpenAI, { toFile } from "openai";
import { readFileSync } from "node:fs";

const { clients, rows } = JSON.parse(readFileSync(0));
const camel = (name) => name.replace("_api_", "_API_").replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

const given = async (value) => {
  if (Array.isArray(value)) return Promise.all(value.map(given));
  if (value === null || typeof value !== "object") return value;
  if ("$file" in value) return toFile(Buffer.from(value.$file, "base64"), value.filename ?? "unnamed");
  return Object.fromEntries(await Promise.all(Object.entries(value).map(async ([key, one]) => [key, await given(one)])));
};

const called = async (client, { name, path, params }) => {
  const names = name.split(".").map(camel);
  const last = names.pop();
  const place = names.reduce((at, one) => at?.[one], client);
  if (typeof place?.[last] !== "function") return null;
  const { [path.at(-1)]: id, ...rest } = await given(params);
  const more = Object.keys(rest).length ? [rest] : [];
  try {
    const answer = await place[last](...(path.length ? [id] : []), ...more);
    if (params.stream) for await (const _ of answer);
    return "";
  } catch (error) {
    return `${error.constructor.name}: ${error.message}`;
  }
};

const found = {};
const direct = new OpenAI({ ...clients.direct, maxRetries: 0 });
const through = new OpenAI({ ...clients.through, maxRetries: 0 });
for (const row of rows) {
  const first = await called(direct, row);
  found[row.name] = first === null ? null : { direct: first, through: await called(through, row) };
}
console.log(JSON.stringify(found));
