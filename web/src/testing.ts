// What only tests ask of the worker: to lose the GPU, and to compare it with the CPU. Vite leaves this out of every build but
// the tests' own (`--mode test`).

/// <reference lib="webworker" />

import type { MorModel } from "../pkg/mor_web.js";
import type { Devices } from "./devices";
import type { Problem } from "./protocol";

/** How often CPU and GPU found the same token likeliest when the CPU wrote. */
export interface AgreementResult {
  equal: number;
  tokens: number;
  seconds: number;
}

export type FromTests = { type: "lose-gpu" } | { type: "agree"; questions: string[]; tokens: number };

export type ToTests = { type: "agree-done"; result: AgreementResult } | { type: "agree-failed"; problem: Problem };

/**
 * Listens for tests.
 *
 * @param measured runs a measurement of the loaded model when what came before has ended, and reports its failure as named
 */
export function listenForTests(
  self: DedicatedWorkerGlobalScope,
  measured: (failed: "agree-failed", measure: (model: MorModel, devices: Devices) => Promise<void>) => void,
): void {
  let opened: GPUDevice | undefined;
  if ("GPUAdapter" in self) {
    const open = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...how) {
      opened = await open.apply(this, how);
      return opened;
    };
  }
  self.addEventListener("message", ({ data }: MessageEvent<FromTests>) => {
    if (data.type === "lose-gpu") {
      // As a reset of its driver would.
      opened?.destroy();
    } else if (data.type === "agree") {
      measured("agree-failed", async (model, devices) => {
        const result = await measureAgreement(model, devices, data.questions, data.tokens);
        self.postMessage({ type: "agree-done", result } satisfies ToTests);
      });
    }
  });
}

/** Counts how often the GPU finds the token likeliest that the CPU writes, in answers to `questions`. */
async function measureAgreement(
  model: MorModel,
  devices: Devices,
  questions: readonly string[],
  tokens: number,
): Promise<AgreementResult> {
  await devices.needGpu();
  const began = performance.now();
  const result: AgreementResult = { equal: 0, tokens: 0, seconds: 0 };
  for (const question of questions) {
    const answer = (await model.agreement(question, tokens)) as { equal: number; tokens: number };
    result.equal += answer.equal;
    result.tokens += answer.tokens;
  }
  result.seconds = (performance.now() - began) / 1000;
  return result;
}
