// A GPU that computes something else, and one that cannot be checked.

import { expect, test } from "@playwright/test";

import { CHROMIUM, GPU_ARGS } from "./browser.mjs";
import { breakWorkers, choose, device, notice, openOn } from "./gpu";
import { answered, answers, send } from "./page";
import { GPU_REPLY } from "./replies.mjs";

test.use({ launchOptions: { executablePath: CHROMIUM, args: GPU_ARGS } });

for (const choice of ["gpu", "auto"] as const) {
  test(`does not trust a GPU that computes something else (${choice})`, async ({ page }) => {
    await openOn(page, choice, "wrong-probe");
    await expect(notice(page)).toContainText("The GPU gave other results than expected, so the CPU writes");
    await expect(device(page)).toHaveAttribute("data-device", "cpu");
    await expect(page.locator("#adapter")).toContainText("other results than expected");
    await send(page);
    await answered(page);
    await expect(answers(page)).toHaveText(GPU_REPLY);
  });
}

test("does not trust a GPU that it cannot check", async ({ page }) => {
  await openOn(page, "gpu", "corrupt-probe");
  await expect(notice(page)).toContainText(/The GPU could not be used, so the CPU writes \(probe\.json: .*export/);
  await expect(device(page)).toHaveAttribute("data-device", "cpu");
});

test("does not trust a GPU for which the check cannot be fetched", async ({ page }) => {
  await openOn(page, "gpu", "unreachable-probe");
  await expect(notice(page)).toContainText(/The GPU could not be used, so the CPU writes \(probe\.json.*answered 500/);
  await expect(device(page)).toHaveAttribute("data-device", "cpu");
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
});

/** Kernels that only decode, each with something that it computes and something else; the made-up model's attention is zero. */
const DECODING = [
  ["sample", "choice[0] = likeliest", "choice[0] = likeliest ^ 1u", "probed"],
  ["attention_decode", "select(0.0, 1.0 / total, total > 0.0)", "0.0", "technical-10m"],
  ["matvec", "keys[position * CACHE_STRIDE + row - third] = value", "keys[position * CACHE_STRIDE + row - third] = -value", "technical-10m"],
] as const;

for (const [kernel, right, wrong, model] of DECODING) {
  test(`does not trust a GPU whose ${kernel} computes something else`, async ({ page }) => {
    await breakWorkers(page, `
      const create = GPUDevice.prototype.createShaderModule;
      GPUDevice.prototype.createShaderModule = function (shader) {
        const code = shader.label.startsWith("${kernel} ") ? shader.code.replace("${right}", "${wrong}") : shader.code;
        return create.call(this, { ...shader, label: shader.label, code });
      }`);
    await openOn(page, "gpu", model);
    await expect(notice(page)).toContainText("The GPU gave other results than expected, so the CPU writes");
    await expect(device(page)).toHaveAttribute("data-device", "cpu");
    await send(page);
    await answered(page);
    if (model === "probed") {
      await expect(answers(page)).toHaveText(GPU_REPLY);
    }
  });
}

test("remembers that a GPU computes something else, until it is chosen", async ({ page }) => {
  await openOn(page, "auto", "wrong-probe");
  await page.reload();
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(device(page)).toContainText("The GPU could not be used within the last month");
  await expect(page.locator("#adapter")).toContainText("other results than expected");
  await expect(page.locator('[data-part="device"]')).toHaveCount(0);
  await choose(page, "gpu");
  await expect(notice(page)).toContainText("The GPU gave other results than expected");
});
