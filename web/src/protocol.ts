// What the page and its worker say to each other. Everything here is plain data: it crosses by structured clone.

import type { Loaded } from "./progress";

/** What a model is, as its `config.json` and weights say. */
export interface ModelInfo {
  parameters: number;
  weight_bytes: number;
  layers: number;
  hidden_size: number;
  heads: number;
  vocab_size: number;
  /** Longest context in tokens: question, history and answer together. */
  context: number;
  /** The most steps a layer can take. */
  max_steps: number;
  /** Steps per layer where they are fixed; null where a router decides. */
  depth: number | null;
}

/** How an answer is written. */
export interface GenerationOptions {
  /** 0 always takes the likeliest token. */
  temperature: number;
  /** Only the k likeliest tokens; 0 is all of them. */
  top_k: number;
  /** Only the likeliest tokens that together reach this probability; 1 is all of them. */
  top_p: number;
  max_new_tokens: number;
  seed: number;
  /** Steps in every layer; null leaves the decision to the model. */
  depth: number | null;
  /** Divides the scores of tokens already written; 1 is off. */
  repetition_penalty: number;
}

export type Role = "system" | "user" | "assistant";

export interface Message {
  role: Role;
  content: string;
}

/** Why an answer ended. */
export type EndReason = "stop" | "length" | "context" | "stopped";

/** One token of an answer. */
export interface Token {
  /** The characters it completed; empty while a character is still incomplete. */
  text: string;
  /** Steps each layer took. */
  steps: number[];
  /** Its probability among the tokens that took part in the choice. */
  probability: number;
}

/** What an answer cost. */
export interface AnswerStats {
  tokens: number;
  prompt_tokens: number;
  /** From the question's arrival in the worker to the first token, in milliseconds. */
  first_token_ms: number;
  /** Tokens per second after the first. */
  tokens_per_second: number;
  /** Mean steps per layer and token. */
  mean_depth: number;
  end: EndReason;
  /** Messages of the history that no longer fitted the context. */
  dropped_messages: number;
}

export type Device = "cpu" | "gpu";

/** What the person chose; `auto` is whichever is faster here. */
export type DeviceChoice = Device | "auto";

/** Where the model runs, and why there. */
export interface DeviceState {
  choice: DeviceChoice;
  device: Device;
  /** A sentence for a person. */
  why: string;
  /** The GPU that the browser offers; null if none. */
  adapter: string | null;
  /** Which kernels of the engine run on that GPU; null until it was opened. */
  variant: string | null;
  /** Why there is no GPU, or why it is not used; null if nothing is wrong with it. */
  trouble: string | null;
}

/** Tokens per second on both devices, measured once for a model and an adapter. */
export interface Speeds {
  cpu: number;
  gpu: number;
}

/** What was learned of a model on an adapter: how fast it is there, or why it cannot run there. */
export type Experience = ({ speeds: Speeds } | { failure: string }) & {
  /** Which weights that was with; null if any would do the same. */
  version: string | null;
};

/** What the time between opening the page and the first token went into; some of it passes side by side. */
export type StartupName =
  | "module"
  | "weights"
  | "tokenizer"
  | "CPU weights"
  | "device"
  | "GPU weights"
  | "pipelines"
  | "probe"
  | "comparison"
  | "ready"
  | "first token";

export interface StartupPart {
  name: StartupName;
  ms: number;
  /** Where something came from, or what came of it. */
  note: string;
}

/** A measurement of decoding, comparable with `mor bench decode`. */
export interface BenchResult {
  prompt_tokens: number;
  new_tokens: number;
  /** One value per run. */
  tokens_per_second: number[];
  prefill_tokens_per_second: number[];
}

/** A failure in words for a person: what happened, to which file, and what to do. */
export interface Problem {
  file?: string;
  message: string;
  remedy: string;
}

/** Files of a model folder that a page can use. */
export interface ModelFiles {
  info: ModelInfo;
  /** The model card (`README.md`), if the folder has one. */
  card: string | null;
  /** Defaults from `generation_config.json`, if the folder has one. */
  defaults: Partial<GenerationOptions>;
  /** Whether the weights came from this browser's cache. */
  cached: boolean;
  /** Whether the server has confirmed that all of the model is what it has now. */
  confirmed: boolean;
  startup: StartupPart[];
}

/** How a model is loaded. */
export interface LoadOptions {
  /** Fetch everything again. */
  reload: boolean;
  device: DeviceChoice;
  /** What earlier visits learned of this model, by adapter. */
  known: Record<string, Experience>;
  /** Why the GPU is to be left alone: it has brought a worker down before; null if it has not. */
  withoutGpu: string | null;
  /** The variant of the engine's GPU kernels; null for such as suit the GPU. */
  kernels: string | null;
}

export type ToWorker =
  | ({ type: "load"; folder: string } & LoadOptions)
  | { type: "set-device"; device: DeviceChoice }
  | { type: "ask"; id: number; messages: Message[]; options: GenerationOptions }
  | { type: "stop"; id: number }
  | { type: "bench"; prompt_tokens: number; new_tokens: number; runs: number; depth: number | null; device: Device };

export type FromWorker =
  | ({ type: "progress" } & Loaded)
  | { type: "preparing" }
  | { type: "loaded"; files: ModelFiles }
  | { type: "load-failed"; problem: Problem }
  | { type: "startup"; parts: StartupPart[] }
  | { type: "device"; state: DeviceState }
  /** The model is on its way to what the person chose, which may take a while. */
  | { type: "switching"; to: DeviceChoice }
  /** Something that the person should know although all goes on. */
  | { type: "notice"; text: string }
  /** The GPU of this name is called. If that never returns, neither does the engine, and only a new worker can go on. */
  | { type: "gpu-call"; adapter: string }
  | { type: "gpu-return" }
  | { type: "learned"; adapter: string; experience: Experience }
  | { type: "token"; id: number; token: Token }
  | { type: "done"; id: number; stats: AnswerStats }
  | { type: "ask-failed"; id: number; problem: Problem }
  | { type: "bench-done"; result: BenchResult }
  | { type: "bench-failed"; problem: Problem };
