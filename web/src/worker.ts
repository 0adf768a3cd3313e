// Owns the model. Answers are written in small steps, with a turn of the event loop between them, so that a stop
// request is heard after the token at hand. The engine does one thing at a time: requests wait for one another.

/// <reference lib="webworker" />

import type { MorModel } from "../pkg/mor_web.js";
import { lookForAdapter } from "./adapter";
import { Devices, isDeviceError } from "./devices";
import { instantiate, loadModel, PROBE, REQUIRED, TEMPLATE } from "./loading";
import { measureSpeed } from "./measure";
import { LoadError, ModelLoader } from "./model-loader";
import type {
  AnswerStats,
  DeviceChoice,
  EndReason,
  FromWorker,
  GenerationOptions,
  Message,
  ModelFiles,
  Problem,
  Token,
  ToWorker,
} from "./protocol";
import { Startup } from "./startup";
import { listenForTests, type ToTests } from "./testing";

declare const self: DedicatedWorkerGlobalScope;

/** What `chat_start` returns. */
interface Prompt {
  prompt_tokens: number;
  dropped_messages: number;
}

/** What `chat_next` returns: a token, or the text that was still pending and the reason for the end. */
type Step = Token & { end: Exclude<EndReason, "stopped"> | null };

/** A model and where it runs. */
interface Loaded {
  model: MorModel;
  devices: Devices;
}

const startup = new Startup();
let loaded: Loaded | undefined;
let stopped = 0;
/** The device that was asked for since the last look. */
let wanted: DeviceChoice | undefined;
let queue: Promise<void> = Promise.resolve();

self.addEventListener("message", (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  switch (message.type) {
    case "load":
      serially(() => load(message));
      break;
    case "ask":
      serially(() => answer(message.id, message.messages, message.options));
      break;
    case "stop":
      stopped = message.id;
      break;
    case "set-device":
      wanted = message.device;
      // Between two tokens if an answer is being written, else now.
      serially(changeDevice);
      break;
    case "bench":
      serially(() =>
        measured("bench-failed", async ({ model, devices }) => {
          post({ type: "bench-done", result: await measureSpeed(model, devices, message) });
        }),
      );
      break;
  }
});

if (import.meta.env.MODE === "test") {
  listenForTests(self, (failed, measure) => {
    serially(() => measured(failed, ({ model, devices }) => measure(model, devices)));
  });
}

function post(message: FromWorker | ToTests): void {
  self.postMessage(message);
}

/** Runs `task` when those before it have ended. Tasks report their own failures. */
function serially(task: () => Promise<void>): void {
  queue = queue.then(task, task);
}

async function load(request: Extract<ToWorker, { type: "load" }>): Promise<void> {
  const loader = await ModelLoader.open(new URL(request.folder));
  const names = [...REQUIRED, TEMPLATE, PROBE];
  try {
    if (request.reload) {
      await loader.forget(names);
    }
    post({ type: "loaded", files: await loadOn(loader, request) });
  } catch (error) {
    // Whatever is wrong, the next try must not meet the same copies again.
    await loader.forget(names);
    post({ type: "load-failed", problem: error instanceof LoadError ? error.problem : describe(error) });
  }
}

async function loadOn(loader: ModelLoader, request: Extract<ToWorker, { type: "load" }>): Promise<ModelFiles> {
  // Fetched whatever the device, since the page is to make no request once it has loaded.
  const probe = loader.optionalBytes(PROBE);
  probe.catch(() => undefined);
  const { withoutGpu } = request;
  const offer = withoutGpu === null ? lookForAdapter() : Promise.resolve({ trouble: withoutGpu, broken: true });
  const devices = new Devices(startup, offer, request, probe, post);
  const module = instantiate(startup);
  // Whichever promise fails first ends the load; the rest must not go unhandled.
  module.catch(() => undefined);
  module.then(() => devices.openEarly(request.device)).catch(() => undefined);
  const ahead = devices.compileAhead.bind(devices);
  const { model, version, files } = await loadModel(loader, module, startup, post, ahead);
  await Promise.allSettled([probe]);
  // Another may have been chosen meanwhile.
  const choice = wanted ?? request.device;
  wanted = undefined;
  await devices.start(model, version, choice);
  loaded = { model, devices };
  startup.set("ready", startup.elapsed());
  return { ...files, confirmed: loader.confirmed, startup: startup.parts() };
}

/** Goes where the person wants the model. */
async function changeDevice(): Promise<void> {
  const choice = wanted;
  wanted = undefined;
  if (choice === undefined || loaded === undefined) {
    return;
  }
  post({ type: "switching", to: choice });
  try {
    await loaded.devices.choose(choice);
    post({ type: "startup", parts: startup.parts() });
  } catch (error) {
    post({ type: "notice", text: describe(error).message });
    loaded.devices.tell();
  }
}

async function answer(id: number, messages: Message[], options: GenerationOptions): Promise<void> {
  if (loaded === undefined) {
    post({ type: "ask-failed", id, problem: { message: "No model is loaded.", remedy: "Load one first." } });
    return;
  }
  try {
    post({ type: "done", id, stats: await write(loaded, id, messages, options) });
  } catch (error) {
    post({ type: "ask-failed", id, problem: describe(error) });
  }
}

/** Writes one answer token by token, and returns what it cost. */
async function write(
  { model, devices }: Loaded,
  id: number,
  messages: Message[],
  options: GenerationOptions,
): Promise<AnswerStats> {
  /** Whatever happens to a GPU meanwhile, it is done in the end: the CPU is always left. */
  const surely = async (run: () => Promise<unknown>): Promise<unknown> => {
    for (;;) {
      try {
        return await (devices.onGpu ? devices.patiently(run) : run());
      } catch (error) {
        if (!isDeviceError(error) || !devices.onGpu) {
          throw error;
        }
        await devices.recover(error);
      }
    }
  };
  const asked = performance.now();
  const [said, how] = [JSON.stringify(messages), JSON.stringify(options)];
  const prompt = (await surely(() => model.chat_start(said, how))) as Prompt;
  let tokens = 0;
  let depths = 0;
  let first = asked;
  let last = asked;
  let end: EndReason | null = null;
  while (end === null) {
    await changeDevice();
    if (stopped === id) {
      model.chat_stop();
      end = "stopped";
      break;
    }
    const { end: reached, ...token } = (await surely(() => model.chat_next())) as Step;
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
    if (tokens === 1 && !startup.has("first token")) {
      startup.set("first token", first - asked, "after the first question");
      post({ type: "startup", parts: startup.parts() });
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

/** Measures something about the loaded model, or says why not. */
async function measured(
  failed: "bench-failed" | "agree-failed",
  measure: (loaded: Loaded) => Promise<void>,
): Promise<void> {
  try {
    if (loaded === undefined) {
      throw new Error("No model is loaded.");
    }
    await measure(loaded);
  } catch (error) {
    post({ type: failed, problem: describe(error) });
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
