// Loads a model folder into the engine.

import init, { MorModel, WeightsBuffer } from "../pkg/mor_web.js";
import moduleUrl from "../pkg/mor_web_bg.wasm?url";
import type { ModelLoader } from "./model-loader";
import type { FromWorker, GenerationOptions, ModelFiles, ModelInfo } from "./protocol";
import type { Startup } from "./startup";

const CONFIG = "config.json";
const TOKENIZER = "tokenizer.json";
const TOKENIZER_CONFIG = "tokenizer_config.json";
const WEIGHTS = "model.safetensors";

/** Files without which there is no model. */
export const REQUIRED = [CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS] as const;
/** What a GPU's results are compared with, if the folder has it. */
export const PROBE = "probe.json";

/** A model that runs nowhere yet, and what the page wants to know of it. */
export interface LoadedModel {
  model: MorModel;
  /** Which weights these are, as `FetchedFile` says. */
  version: string | null;
  files: Omit<ModelFiles, "startup">;
}

/** Instantiates the engine's module. */
export async function instantiate(startup: Startup): Promise<void> {
  await startup.time("module", () => init({ module_or_path: moduleUrl }));
}

/**
 * Fetches the folder's files while `module` is instantiated, and builds the model of them.
 *
 * @param ahead hears of the configuration and of every part of the weights that has arrived
 */
export async function loadModel(
  loader: ModelLoader,
  module: Promise<void>,
  startup: Startup,
  post: (message: FromWorker) => void,
  ahead: (config: Uint8Array, weights: WeightsBuffer) => void,
): Promise<LoadedModel> {
  const sizes = new Map<string, { loaded: number; size: number }>();
  const progress = (name: string) => (loaded: number, size: number | undefined) => {
    sizes.set(name, { loaded, size: size ?? loaded });
    let sum = 0;
    let total = 0;
    for (const file of sizes.values()) {
      sum += file.loaded;
      total += file.size;
    }
    post({ type: "progress", loaded: sum, total });
  };

  // Weights stream straight into the module's memory: no second copy of them exists in this worker.
  let buffer: WeightsBuffer | undefined;
  let config: Uint8Array | undefined;
  const arrived = () => {
    if (config !== undefined && buffer !== undefined) {
      ahead(config, buffer);
    }
  };
  const weights = startup.time("weights", () =>
    loader.stream(
      WEIGHTS,
      {
        async begin(size) {
          await module;
          buffer?.free();
          buffer = new WeightsBuffer(size ?? 0);
        },
        write(chunk) {
          buffer?.append(chunk);
          arrived();
        },
      },
      progress(WEIGHTS),
    ),
  );
  const [configFile, tokenizer, tokenizerConfig, { cached, version }, card, generation] = await Promise.all([
    loader.bytes(CONFIG, progress(CONFIG)).then((bytes) => (config = bytes)),
    loader.bytes(TOKENIZER, progress(TOKENIZER)),
    loader.bytes(TOKENIZER_CONFIG, progress(TOKENIZER_CONFIG)),
    weights,
    loader.optionalText("README.md"),
    loader.optionalText("generation_config.json"),
    module,
  ]);
  startup.note("weights", cached ? "from this browser's cache" : "from the network");
  // The GPU may have been opened only now.
  arrived();
  const bytes = buffer;
  if (bytes === undefined) {
    throw new Error("The weights never arrived.");
  }
  post({ type: "preparing" });
  // Takes the buffer: it must not be freed again.
  const model = await startup.time("tokenizer", () => new MorModel(configFile, tokenizer, tokenizerConfig, bytes));
  const info = model.info() as ModelInfo;
  return { model, version, files: { info, card, defaults: generationDefaults(generation), cached } };
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
