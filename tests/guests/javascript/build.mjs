// Usage: node build.mjs WIT_DIRECTORY OUTPUT.wasm, from anywhere. Every WASI feature is off, so the component imports cyfr:* and nothing else.

import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";

import { componentize } from "@bytecodealliance/componentize-js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const { component } = await componentize({
  sourcePath: here("catalyst.js"),
  witPath: resolve(argv[2]), // componentize wants it absolute
  worldName: "cyfr",
  disableFeatures: ["stdio", "random", "clocks", "http", "fetch-event"],
});
await writeFile(argv[3], component);
