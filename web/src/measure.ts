// Measurements: which device is faster, and what the benchmark asks for.

import type { MorModel } from "../pkg/mor_web.js";
import type { Devices } from "./devices";
import type { BenchResult, Device, ModelInfo, Speeds, ToWorker } from "./protocol";

/** Tokens of the comparison between devices: as many as fit the time, and at most so many. */
const COMPARED_TOKENS = 16;
const COMPARED_MS = 500;
const COMPARED_PROMPT = 8;

/** Measures both devices, on which the model must be. */
export async function compareSpeeds(model: MorModel): Promise<Speeds> {
  const { context } = model.info() as ModelInfo;
  const prompt = Math.min(COMPARED_PROMPT, Math.ceil(context / 2));
  const most = Math.min(COMPARED_TOKENS, context - prompt);
  const speed = async (device: Device): Promise<number> => {
    await model.bench_prefill(device, prompt, undefined);
    const began = performance.now();
    let tokens = 0;
    let passed = 0;
    while (tokens < most && passed < COMPARED_MS) {
      await model.bench_decode(1);
      tokens += 1;
      passed = performance.now() - began;
    }
    // A clock may be too coarse to see a fast token.
    return (tokens * 1000) / Math.max(passed, 0.1);
  };
  try {
    return { cpu: await speed("cpu"), gpu: await speed("gpu") };
  } finally {
    model.bench_end();
  }
}

/** Times prefill and decoding without the page or the text. */
export async function measureSpeed(
  model: MorModel,
  devices: Devices,
  request: Extract<ToWorker, { type: "bench" }>,
): Promise<BenchResult> {
  const { prompt_tokens, new_tokens, runs, device } = request;
  if (device === "gpu") {
    await devices.needGpu();
  }
  const decode: number[] = [];
  const prefill: number[] = [];
  try {
    for (let run = 0; run < runs; run++) {
      const started = performance.now();
      await model.bench_prefill(device, prompt_tokens, request.depth ?? undefined);
      const filled = performance.now();
      await model.bench_decode(new_tokens);
      const ended = performance.now();
      prefill.push((prompt_tokens * 1000) / (filled - started));
      decode.push((new_tokens * 1000) / (ended - filled));
    }
  } finally {
    model.bench_end();
  }
  return { prompt_tokens, new_tokens, tokens_per_second: decode, prefill_tokens_per_second: prefill };
}
