// Owns the model. Answers are written in small steps, with a turn of the event loop between them, so that a stop
// request is heard after the token at hand.

/// <reference lib="webworker" />

import init, { MorModel, WeightsBuffer } from "../pkg/mor_web.js";
import moduleUrl from "../pkg/mor_web_bg.wasm?url";
import { LoadError, ModelLoader } from "./model-loader";
import type {
  AnswerStats,
  EndReason,
  FromWorker,
  GenerationOptions,
  Message,
  ModelFiles,
  ModelInfo,
  Problem,
  Token,
  ToWorker,
} from "./protocol";

declare const self: DedicatedWorkerGlobalScope;

const CONFIG = "config.json";
const TOKENIZER = "tokenizer.json";
const TOKENIZER_CONFIG = "tokenizer_config.json";
const WEIGHTS = "model.safetensors";
const REQUIRED = [CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS] as const;

/** What `chat_start` returns. */
interface Prompt {
  prompt_tokens: number;
  dropped_messages: number;
}

/** What `chat_next` returns: a token, or the text that was still pending and the reason for the end. */
type Step = Token & { end: Exclude<EndReason, "stopped"> | null };

let model: MorModel | undefined;
let stopped = 0;

self.addEventListener("message", (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  switch (message.type) {
    case "load":
      void load(new URL(message.folder), message.reload);
      break;
    case "ask":
      void answer(message.id, message.messages, message.options);
      break;
    case "stop":
      stopped = message.id;
      break;
    case "bench":
      bench(message);
      break;
  }
});

function post(message: FromWorker): void {
  self.postMessage(message);
}

async function load(folder: URL, reload: boolean): Promise<void> {
  const loader = await ModelLoader.open(folder);
  try {
    if (reload) {
      await loader.forget(REQUIRED);
    }
    post({ type: "loaded", files: await loadModel(loader) });
  } catch (error) {
    // Whatever is wrong, the next try must not meet the same copies again.
    await loader.forget(REQUIRED);
    post({ type: "load-failed", problem: error instanceof LoadError ? error.problem : describe(error) });
  }
}

async function loadModel(loader: ModelLoader): Promise<ModelFiles> {
  const module = init({ module_or_path: moduleUrl });
  // Whichever promise fails first ends the load; the rest must not go unhandled.
  module.catch(() => undefined);

  const sizes = new Map<string, { loaded: number; size: number }>();
  let cached = true;
  const progress = (name: string) => (loaded: number, size: number | undefined) => {
    sizes.set(name, { loaded, size: size ?? loaded });
    let sum = 0;
    let total = 0;
    for (const file of sizes.values()) {
      sum += file.loaded;
      total += file.size;
    }
    post({ type: "progress", loaded: sum, total, cached });
  };

  // Weights stream straight into the module's memory: no second copy of them exists in this worker.
  let buffer: WeightsBuffer | undefined;
  const weights = loader.stream(
    WEIGHTS,
    {
      async begin(size) {
        await module;
        buffer?.free();
        buffer = new WeightsBuffer(size ?? 0);
      },
      write(chunk) {
        buffer?.append(chunk);
      },
    },
    progress(WEIGHTS),
  );
  const [config, tokenizer, tokenizerConfig, file, card, generation] = await Promise.all([
    loader.bytes(CONFIG, progress(CONFIG)),
    loader.bytes(TOKENIZER, progress(TOKENIZER)),
    loader.bytes(TOKENIZER_CONFIG, progress(TOKENIZER_CONFIG)),
    weights,
    loader.optionalText("README.md"),
    loader.optionalText("generation_config.json"),
    module,
  ]);
  cached = file.cached;
  if (buffer === undefined) {
    throw new Error("The weights never arrived.");
  }
  post({ type: "preparing" });
  model?.free();
  model = undefined;
  // Takes the buffer: it must not be freed again.
  model = new MorModel(config, tokenizer, tokenizerConfig, buffer);
  return {
    info: model.info() as ModelInfo,
    card,
    defaults: generationDefaults(generation),
    cached,
  };
}

/** The generation defaults of Hugging Face's `generation_config.json` that this engine knows. */
function generationDefaults(text: string | null): Partial<GenerationOptions> {
  const defaults: Partial<GenerationOptions> = {};
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(text ?? "{}") as Record<string, unknown>;
  } catch {
    return defaults;
  }
  for (const name of ["temperature", "top_k", "top_p", "max_new_tokens", "repetition_penalty"] as const) {
    const value = parsed[name];
    if (typeof value === "number" && Number.isFinite(value) && value >= 0) {
      defaults[name] = value;
    }
  }
  if (parsed["do_sample"] === false) {
    defaults.temperature = 0;
  }
  return defaults;
}

async function answer(id: number, messages: Message[], options: GenerationOptions): Promise<void> {
  if (model === undefined) {
    post({ type: "ask-failed", id, problem: { message: "No model is loaded.", remedy: "Load one first." } });
    return;
  }
  try {
    post({ type: "done", id, stats: await write(model, id, messages, options) });
  } catch (error) {
    post({ type: "ask-failed", id, problem: describe(error) });
  }
}

/** Writes one answer token by token, and returns what it cost. */
async function write(
  writer: MorModel,
  id: number,
  messages: Message[],
  options: GenerationOptions,
): Promise<AnswerStats> {
  const asked = performance.now();
  const prompt = (await writer.chat_start(JSON.stringify(messages), JSON.stringify(options))) as Prompt;
  let tokens = 0;
  let depths = 0;
  let first = asked;
  let last = asked;
  let end: EndReason | null = null;
  while (end === null) {
    if (stopped === id) {
      writer.chat_stop();
      end = "stopped";
      break;
    }
    const { end: reached, ...token } = (await writer.chat_next()) as Step;
    last = performance.now();
    end = reached;
    if (reached === null) {
      tokens += 1;
      first = tokens === 1 ? last : first;
      depths += mean(token.steps);
    }
    if (reached === null || token.text !== "") {
      post({ type: "token", id, token });
    }
    await nextTurn();
  }
  return {
    tokens,
    prompt_tokens: prompt.prompt_tokens,
    dropped_messages: prompt.dropped_messages,
    first_token_ms: first - asked,
    tokens_per_second: tokens > 1 && last > first ? ((tokens - 1) * 1000) / (last - first) : 0,
    mean_depth: tokens > 0 ? depths / tokens : 0,
    end,
  };
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

const turns = new MessageChannel();

/** Lets waiting messages in. A message to oneself costs microseconds where a timer costs milliseconds. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    turns.port1.onmessage = () => resolve();
    turns.port2.postMessage(null);
  });
}

/** Times prefill and decoding without the page, the sampler's stop or the text. */
function bench(request: Extract<ToWorker, { type: "bench" }>): void {
  if (model === undefined) {
    post({ type: "bench-failed", problem: { message: "No model is loaded.", remedy: "Load one first." } });
    return;
  }
  try {
    const { prompt_tokens, new_tokens, runs } = request;
    const decode: number[] = [];
    const prefill: number[] = [];
    for (let run = 0; run < runs; run++) {
      const started = performance.now();
      model.bench_prefill(prompt_tokens, request.depth ?? undefined);
      const filled = performance.now();
      model.bench_decode(new_tokens);
      const ended = performance.now();
      prefill.push((prompt_tokens * 1000) / (filled - started));
      decode.push((new_tokens * 1000) / (ended - filled));
    }
    post({
      type: "bench-done",
      result: { prompt_tokens, new_tokens, tokens_per_second: decode, prefill_tokens_per_second: prefill },
    });
  } catch (error) {
    post({ type: "bench-failed", problem: describe(error) });
  }
}

/** An error of the engine or the browser, in words for a person. */
function describe(error: unknown): Problem {
  const text = error instanceof Error ? error.message : String(error);
  if (error instanceof WebAssembly.CompileError || error instanceof WebAssembly.LinkError) {
    return {
      message: `This browser cannot run the engine: ${text}`,
      remedy: "It needs WebAssembly with SIMD: Chrome 91, Firefox 89, Safari 16.4 or later.",
    };
  }
  // A trap, or the words of the module's panic hook: either way the module cannot be used any more.
  if (error instanceof WebAssembly.RuntimeError || text.startsWith("the engine stopped unexpectedly")) {
    return { message: `The engine failed: ${text}`, remedy: "Reload the page, and please report what you asked." };
  }
  const file = REQUIRED.find((name) => text.includes(name));
  if (file !== undefined) {
    return {
      file,
      message: text,
      remedy: "Copy that file again from where the model came from, then try again.",
    };
  }
  return { message: text, remedy: "Try again." };
}
