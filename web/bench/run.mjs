// Times the engine in headless Chromium: one thread of WebAssembly, to be compared with
// `mor bench decode --threads 1 --prompt-tokens 20 --new-tokens 100 --json`.
//
//   npm run bench -- [--model DIR] [--prompt-tokens 20] [--new-tokens 100] [--runs 5] [--depth N] [--device cpu|gpu]
//
// Prints one JSON object. Needs web/dist (`cargo xtask web`); CHROMIUM names another browser.

import { readdir } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { chromium } from "@playwright/test";

import { ARGS, CHROMIUM, GPU_ARGS } from "../tests/browser.mjs";
import { startServer } from "../tests/server.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

const { values } = parseArgs({
  options: {
    model: { type: "string", default: `${ROOT}models/technical-10m` },
    "prompt-tokens": { type: "string", default: "20" },
    "new-tokens": { type: "string", default: "100" },
    runs: { type: "string", default: "5" },
    depth: { type: "string" },
    device: { type: "string", default: "cpu" },
  },
});

/** @param {string} name @param {string} text */
function positive(name, text) {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    console.error(`error: --${name} is ${text}; it must be a whole number of at least 1`);
    process.exit(2);
  }
  return value;
}

if (values.device !== "cpu" && values.device !== "gpu") {
  console.error(`error: --device is ${values.device}; it must be cpu or gpu`);
  process.exit(2);
}

const folder = resolve(process.env["INIT_CWD"] ?? ".", values.model);
const request = {
  type: "bench",
  prompt_tokens: positive("prompt-tokens", values["prompt-tokens"]),
  new_tokens: positive("new-tokens", values["new-tokens"]),
  runs: positive("runs", values.runs),
  depth: values.depth === undefined ? null : positive("depth", values.depth),
  device: values.device,
};

const assets = await readdir(new URL("../dist/assets/", import.meta.url)).catch(() => []);
const worker = assets.find((name) => /^worker-.*\.js$/.test(name));
if (worker === undefined) {
  console.error("error: web/dist is not built; run `cargo xtask web`");
  process.exit(1);
}

const server = await startServer(0, dirname(folder));
const address = server.address();
const port = typeof address === "object" && address !== null ? address.port : 0;
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: request.device === "gpu" ? GPU_ARGS : ARGS,
});
try {
  const page = await browser.newPage();
  // Any page of this origin will do; the chat page would load a second model.
  await page.goto(`http://127.0.0.1:${port}/icon.svg`);
  const outcome = await page.evaluate(
    ({ script, model, bench }) =>
      new Promise((done) => {
        const thread = new Worker(script, { type: "module" });
        thread.onerror = (event) => done({ error: event.message || "the worker could not be loaded" });
        thread.onmessage = ({ data }) => {
          if (data.type === "loaded") {
            thread.postMessage(bench);
          } else if (data.type === "bench-done") {
            done(data.result);
          } else if (data.type === "load-failed" || data.type === "bench-failed") {
            done({ error: data.problem.message });
          }
        };
        const options = { reload: false, device: bench.device, known: {}, withoutGpu: null, kernels: null };
        thread.postMessage({ type: "load", folder: model, ...options });
      }),
    {
      script: `/assets/${worker}`,
      model: `http://127.0.0.1:${port}/models/${encodeURIComponent(basename(folder))}/`,
      bench: request,
    },
  );
  const result = /** @type {import("../src/protocol").BenchResult & { error?: string }} */ (outcome);
  if (result.error !== undefined) {
    console.error(`error: ${result.error}`);
    process.exitCode = 1;
  } else {
    const median = (/** @type {number[]} */ runs) => runs.toSorted((a, b) => a - b)[runs.length >> 1] ?? 0;
    console.log(
      JSON.stringify(
        {
          model: basename(folder),
          browser: `Chromium ${browser.version()}`,
          device: request.device,
          threads: 1,
          depth: request.depth,
          prompt_tokens: result.prompt_tokens,
          new_tokens: result.new_tokens,
          tokens_per_second: Number(median(result.tokens_per_second).toFixed(1)),
          prefill_tokens_per_second: Number(median(result.prefill_tokens_per_second).toFixed(1)),
          runs: result.tokens_per_second.map((value) => Number(value.toFixed(1))),
        },
        null,
        2,
      ),
    );
  }
} finally {
  await browser.close();
  server.close();
  server.closeAllConnections();
}
