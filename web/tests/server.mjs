// A server for the tests and the benchmark: the built page, the shipped model, and made-up models with made-up
// faults. `/models/NAME@TAG/` is `/models/NAME/` under an address of its own, so that tests share neither caches nor
// counts; `/requests?of=PATH` tells how often PATH was fetched. `/?test` is the page that is built for tests, whose worker
// can be told to lose its GPU.

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { readFile, stat } from "node:fs/promises";
import { extname, join, normalize, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { GPU_REPLY, LONG_REPLY, HOSTILE_REPLY, MARKDOWN_REPLY } from "./replies.mjs";
import { routedModel } from "./routed.mjs";
import { scriptedModel, scriptedProbe } from "./models.mjs";

const PAGE = fileURLToPath(new URL("../dist/", import.meta.url));
const TEST_PAGE = fileURLToPath(new URL("../dist-test/", import.meta.url));
const MODELS = fileURLToPath(new URL("../../models/", import.meta.url));

const TYPES = /** @type {Record<string, string>} */ ({
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".md": "text/markdown; charset=utf-8",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
});

/** @type {Map<string, Map<string, Buffer>>} */
const made = new Map();

/** @type {Record<string, () => Map<string, Buffer>>} */
const RECIPES = {
  long: () => scriptedModel(LONG_REPLY),
  markdown: () => scriptedModel(MARKDOWN_REPLY),
  hostile: () => scriptedModel(HOSTILE_REPLY),
  // Some fourteen million multiplications a token, so that there is time to look.
  slow: () => scriptedModel(LONG_REPLY, { layers: 6, ffn: 512, depth: 4 }),
  missing: () => without("model.safetensors"),
  "missing-tokenizer": () => without("tokenizer.json"),
  // Whole as far as HTTP can tell, cut as far as safetensors can.
  truncated: () => changed("model.safetensors", (file) => file.subarray(0, file.length >> 1)),
  "corrupt-config": () => changed("config.json", () => Buffer.from('{"model_type": "mor-tech')),
  "corrupt-tokenizer": () => changed("tokenizer.json", (file) => file.subarray(0, 1000)),
  "other-weights": () => changed("config.json", (file) =>
    Buffer.from(file.toString().replace('"num_hidden_layers":2', '"num_hidden_layers":3'))),
  // The last value of the last tensor, in f16.
  "not-finite": () => changed("model.safetensors", (file) => Buffer.concat([file.subarray(0, -2), Buffer.from([0, 0x7e])])),
  // As newer versions of transformers write it.
  "template-file": () => templateInFile(),
  probed: () => withProbe(GPU_REPLY, true, 64),
  "probed-long": () => withProbe(LONG_REPLY, true),
  "wrong-probe": () => withProbe(GPU_REPLY, false, 64),
  "corrupt-probe": () => scriptedModel(GPU_REPLY).set("probe.json", Buffer.from('{"ids":')),
  "unreachable-probe": () => withProbe(GPU_REPLY, true, 64),
  // Where speeds are compared the context ends the comparison.
  short: () => routedModel("technical", "prefix", "F32", 16),
  broken: () => scriptedModel(LONG_REPLY),
  flaky: () => scriptedModel(LONG_REPLY),
  fallback: () => scriptedModel(LONG_REPLY),
};

/** @param {string} file */
function without(file) {
  const files = scriptedModel(LONG_REPLY);
  files.delete(file);
  return files;
}

/**
 * @param {string} file
 * @param {(bytes: Buffer) => Buffer} change
 */
function changed(file, change) {
  const files = scriptedModel(LONG_REPLY);
  files.set(file, change(files.get(file) ?? Buffer.alloc(0)));
  return files;
}

/** A model whose chat template stands in a file of its own. */
function templateInFile() {
  const files = scriptedModel(LONG_REPLY);
  const { chat_template, ...config } = JSON.parse((files.get("tokenizer_config.json") ?? "").toString());
  files.set("tokenizer_config.json", Buffer.from(JSON.stringify(config)));
  return files.set("chat_template.jinja", Buffer.from(chat_template));
}

/**
 * A model with the probe that `mor export` would write for it, or with another model's.
 * @param {string} reply
 * @param {boolean} right
 * @param {number} [context]
 */
function withProbe(reply, right, context) {
  const files = scriptedModel(reply, context === undefined ? {} : { context });
  return files.set("probe.json", Buffer.from(JSON.stringify(scriptedProbe(files, reply, right))));
}

/**
 * `technical-prefix-F32` and the like: a model with routers.
 * @param {string} name
 */
function routed(name) {
  const [, family, pooling, type] = /^(technical|conversational)-(sequence|real|prefix)-(F32|F16|I8)$/.exec(name) ?? [];
  if (family === undefined) {
    return undefined;
  }
  return () => routedModel(/** @type {any} */ (family), /** @type {any} */ (pooling), /** @type {any} */ (type));
}

/** @param {string} name */
function model(name) {
  const recipe = RECIPES[name] ?? routed(name);
  if (recipe === undefined) {
    return undefined;
  }
  let files = made.get(name);
  if (files === undefined) {
    files = recipe();
    made.set(name, files);
  }
  return files;
}

/**
 * A file of the disk, or undefined; never one outside `root`.
 * @param {string} root
 * @param {string} path
 */
async function fromDisk(root, path) {
  const full = normalize(join(root, path));
  if (!full.startsWith(normalize(root + sep))) {
    return undefined;
  }
  try {
    return (await stat(full)).isFile() ? await readFile(full) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Starts the server on 127.0.0.1 and resolves to it.
 * @param {number} port 0 picks a free one
 * @param {string} [modelRoot] folder whose subfolders are served under /models/
 */
export function startServer(port, modelRoot = MODELS) {
  /** @type {Map<string, number>} */
  const counts = new Map();

  /**
   * @param {import("node:http").IncomingMessage} request
   * @param {import("node:http").ServerResponse} response
   */
  async function handle(request, response) {
    const url = new URL(request.url ?? "/", "http://localhost");
    const path = decodeURIComponent(url.pathname);
    if (path === "/requests") {
      response.end(String(counts.get(url.searchParams.get("of") ?? "") ?? 0));
      return;
    }
    if (request.method === "GET") {
      counts.set(path, (counts.get(path) ?? 0) + 1);
    }
    let body;
    const [, name = "", file = ""] = /^\/models\/([^/]+)\/([^/]+)$/.exec(path) ?? [];
    if (name !== "") {
      const recipe = name.split("@")[0] ?? "";
      if (recipe === "flaky" && file === "model.safetensors" && counts.get(path) === 1) {
        body = undefined;
      } else if (recipe === "unreachable-probe" && file === "probe.json") {
        response.writeHead(500, { "content-type": "text/plain" }).end("out of order");
        return;
      } else if (recipe === "fallback" && file === "model.safetensors") {
        response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>Home</title>");
        return;
      } else {
        body = model(recipe)?.get(file) ?? (await fromDisk(modelRoot, `${recipe}/${file}`));
      }
      if (recipe === "broken" && file === "model.safetensors" && body !== undefined) {
        response.writeHead(200, { "content-length": body.length });
        response.write(body.subarray(0, body.length >> 1), () => response.destroy());
        return;
      }
    } else {
      // Names in assets/ carry a hash of their contents, so the two never mix.
      const file = path.endsWith("/") ? `${path}index.html` : path;
      const roots = url.searchParams.has("test") ? [TEST_PAGE, PAGE] : [PAGE, TEST_PAGE];
      body = (await fromDisk(roots[0] ?? "", file)) ?? (await fromDisk(roots[1] ?? "", file));
    }
    if (body === undefined) {
      response.writeHead(404, { "content-type": "text/plain" }).end("not found");
      return;
    }
    response.writeHead(200, {
      "content-length": body.length,
      "content-type": TYPES[extname(path.endsWith("/") ? "index.html" : path)] ?? "application/octet-stream",
      "cross-origin-embedder-policy": "require-corp",
      "cross-origin-opener-policy": "same-origin",
      etag: `"${createHash("sha256").update(body).digest("hex").slice(0, 16)}"`,
    });
    response.end(request.method === "HEAD" ? undefined : body);
  }

  const server = createServer((request, response) => {
    handle(request, response).catch((error) => {
      response.destroy(error instanceof Error ? error : undefined);
    });
  });
  return new Promise((/** @type {(server: import("node:http").Server) => void} */ resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await startServer(Number(process.argv[2] ?? 4173));
}
