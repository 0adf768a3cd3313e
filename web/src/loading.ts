// Loads a model folder into the engine.

import init, { MorModel, WeightsBuffer } from "../pkg/mor_web.js";
import moduleUrl from "../pkg/mor_web_bg.wasm?url";
import type { ModelLoader } from "./model-loader";
import { Progress } from "./progress";
import type { FromWorker, GenerationOptions, ModelFiles, ModelInfo } from "./protocol";
import type { Startup } from "./startup";

const CONFIG = "config.json";
const TOKENIZER = "tokenizer.json";
const TOKENIZER_CONFIG = "tokenizer_config.json";
/** The chat template, where it is a file of its own. */
export const TEMPLATE = "chat_template.jinja";
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
  files: Omit<ModelFiles, "confirmed" | "startup">;
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
  const arriving = new Progress(REQUIRED, WEIGHTS);
  const progress = (name: string) => (loaded: number, size: number | undefined) => {
    post({ type: "progress", ...arriving.note(name, loaded, size) });
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
  const [configFile, tokenizer, [tokenizerConfig, template], { cached, version }, card, generation] = await Promise.all([
    loader.bytes(CONFIG, progress(CONFIG)).then((bytes) => (config = bytes)),
    loader.bytes(TOKENIZER, progress(TOKENIZER)),
    loader.bytes(TOKENIZER_CONFIG, progress(TOKENIZER_CONFIG)).then((bytes) => withTemplate(loader, bytes)),
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
  const model = await startup.time(
    "tokenizer",
    () => new MorModel(configFile, tokenizer, tokenizerConfig, bytes, template),
  );
  const info = model.info() as ModelInfo;
  const defaults = generationDefaults(model, generation, post);
  return { model, version, files: { info, card, defaults, cached } };
}

/** The tokenizer's configuration, and the chat template where it is a file of its own, as newer tools write it. */
async function withTemplate(loader: ModelLoader, config: Uint8Array): Promise<[Uint8Array, Uint8Array?]> {
  let hasTemplate = true;
  try {
    const fields = JSON.parse(new TextDecoder().decode(config)) as { chat_template?: unknown } | null;
    hasTemplate = (fields?.chat_template ?? null) !== null;
  } catch {
    // The engine says what is wrong with it.
  }
  const text = hasTemplate ? null : await loader.optionalText(TEMPLATE);
  return text === null ? [config] : [config, new TextEncoder().encode(text)];
}

/**
 * The defaults of Hugging Face's `generation_config.json`, as the engine reads them; none where the folder has no such file.
 * A host that answers with a page for a missing file is told apart by the reading, and said, but is no reason to stop.
 */
function generationDefaults(
  model: MorModel,
  text: string | null,
  post: (message: FromWorker) => void,
): Partial<GenerationOptions> {
  if (text === null) {
    return {};
  }
  try {
    return model.set_generation_config(new TextEncoder().encode(text)) as Partial<GenerationOptions>;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    post({ type: "notice", text: `The model's own settings are not used. ${reason}` });
    return {};
  }
}
