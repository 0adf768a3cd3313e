// A GPU that brings its worker down, does not answer, or runs out of something.

import { expect, type Page, test } from "@playwright/test";

import { GPU_PATIENCE } from "../src/worker-client";
import { CHROMIUM, GPU_ARGS } from "./browser.mjs";
import { breakWorkers, choose, device, notice, openOn, prefer, remember } from "./gpu";
import { answered, answers, modelName, send } from "./page";
import { GPU_REPLY } from "./replies.mjs";

test.use({ launchOptions: { executablePath: CHROMIUM, args: GPU_ARGS } });

/** The submit, one a token, that falls into the first answer: startup and the prompt take fewer. */
const LATE = 40;

/** Breaks a GPU so that it gives no result from the one of this number on. */
const deaf = (results: number) => `
  let results = 0;
  const mapAsync = GPUBuffer.prototype.mapAsync;
  GPUBuffer.prototype.mapAsync = function (...which) {
    results += 1;
    if (results < ${results}) {
      return mapAsync.apply(this, which);
    }
    new BroadcastChannel("deaf").postMessage("");
    return new Promise(() => undefined);
  }`;

/** Ends the page's time for a GPU once one has gone [`deaf`], and not before, however slow the machine is. */
async function shortenPatience(page: Page): Promise<void> {
  await page.addInitScript((patience) => {
    const later = window.setTimeout;
    let giveUp: (() => void) | undefined;
    Object.assign(window, {
      setTimeout: (run: () => void, ms: number) => {
        giveUp = ms === patience ? run : giveUp;
        return later(run, ms);
      },
    });
    new BroadcastChannel("deaf").onmessage = () => giveUp?.();
  }, GPU_PATIENCE * 1000);
}

for (const choice of ["gpu", "auto"] as const) {
  test(`loads without a GPU that brings the worker down (${choice})`, async ({ page }) => {
    await breakWorkers(page, "GPUDevice.prototype.createComputePipeline = () => { throw new Error('out of order') }");
    await openOn(page, choice, "probed");
    await expect(notice(page)).toContainText(/so the CPU writes.*out of order/);
    await expect(device(page)).toHaveAttribute("data-device", "cpu");
    await send(page);
    await answered(page);
    await expect(answers(page)).toHaveText(GPU_REPLY);
  });
}

test("loads anew when the GPU brings the worker down later", async ({ page }) => {
  await breakWorkers(page, `
    let submits = 0;
    const submit = GPUQueue.prototype.submit;
    GPUQueue.prototype.submit = function (buffers) {
      submits += 1;
      if (submits === ${LATE}) {
        throw new Error("out of order");
      }
      return submit.call(this, buffers);
    }`);
  await openOn(page, "gpu", "probed");
  await expect(device(page)).toHaveAttribute("data-device", "gpu");
  await send(page);
  await answered(page);
  // From the start, by the worker that came after.
  await expect(answers(page)).toHaveText(GPU_REPLY);
  await expect(notice(page)).toContainText("so the CPU writes");
  await expect(page.getByRole("status")).toHaveText("Ready");
});

for (const [when, results] of [["it starts", 1], ["it writes", 6]] as const) {
  test(`loads without a GPU that does not answer when ${when}`, async ({ page }) => {
    await breakWorkers(page, deaf(results));
    await shortenPatience(page);
    await openOn(page, "gpu", "probed");
    await send(page);
    await answered(page);
    await expect(answers(page)).toHaveText(GPU_REPLY);
    await expect(notice(page)).toContainText(`It did not answer within ${GPU_PATIENCE} seconds.`);
    await expect(device(page)).toHaveAttribute("data-device", "cpu");
  });
}

test("remembers a GPU that does not answer, until it is chosen", async ({ page }) => {
  await breakWorkers(page, deaf(1));
  await shortenPatience(page);
  await openOn(page, "auto", "probed");
  const why = `It did not answer within ${GPU_PATIENCE} seconds.`;
  await expect(notice(page)).toContainText(`${why} Choose the GPU to try it again.`);
  // By a new worker, since this one cannot.
  await choose(page, "gpu");
  await expect(notice(page)).toContainText(`${why} Reload the page to try it again.`);
  await choose(page, "auto");
  await page.reload();
  await expect(device(page)).toContainText("The GPU could not be used within the last month", { timeout: 15_000 });
  await expect(page.locator("#adapter")).toContainText(why);
  await expect(notice(page)).toBeHidden();
  await choose(page, "gpu");
  await expect(notice(page)).toContainText(why);
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
});

test("does not wait for a GPU that does not answer when the CPU is chosen instead", async ({ page }) => {
  await breakWorkers(page, deaf(1));
  await prefer(page, { device: "gpu" });
  await page.goto(`/?test&model=${modelName("probed")}`);
  await expect(page.locator("#load-label")).toHaveText("Preparing the model");
  await choose(page, "cpu");
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(device(page)).toHaveText("The model runs on the CPU. You chose the CPU.");
  await expect(notice(page)).toBeHidden();
});

test("an answer goes on when its GPU does not answer and the CPU is chosen", async ({ page }) => {
  await breakWorkers(page, deaf(6));
  await openOn(page, "gpu", "probed");
  await send(page);
  await choose(page, "cpu");
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
  await expect(device(page)).toHaveText("The model runs on the CPU. You chose the CPU.");
  await expect(page.getByRole("status")).toHaveText("Ready");
});

test("an answer that is asked for again can be stopped before it comes", async ({ page }) => {
  await breakWorkers(page, deaf(6));
  await shortenPatience(page);
  await openOn(page, "gpu", "probed");
  await send(page);
  await page.getByRole("button", { name: "Stop" }).click();
  await answered(page);
  await expect(page.getByRole("status")).toHaveText("Stopped");
  expect((await answers(page).innerText()).length).toBeLessThan(GPU_REPLY.length);
});

for (const choice of ["cpu", "auto"] as const) {
  test(`loads when the browser does not say which GPU there is (${choice})`, async ({ page }) => {
    // Nothing else in a worker waits for time to pass.
    await breakWorkers(page, `
      GPU.prototype.requestAdapter = () => new Promise(() => undefined);
      const later = self.setTimeout;
      self.setTimeout = (run, ms) => later(run, ms / 100)`);
    await openOn(page, choice, "probed");
    await expect(device(page)).toContainText(choice === "cpu" ? "You chose the CPU" : "There is no GPU to use");
    await expect(page.locator("#adapter")).toContainText("did not answer when it was asked for a GPU");
    await send(page);
    await answered(page);
    await expect(answers(page)).toHaveText(GPU_REPLY);
  });
}

test("goes on on the CPU, and says so once, when the GPU's memory is full", async ({ page }) => {
  await breakWorkers(page, `
    let submits = 0;
    const submit = GPUQueue.prototype.submit;
    const opened = GPUAdapter.prototype.requestDevice;
    let device;
    GPUAdapter.prototype.requestDevice = async function (...how) {
      return (device = await opened.apply(this, how));
    };
    GPUQueue.prototype.submit = function (buffers) {
      submits += 1;
      if (submits === ${LATE}) {
        const error = new GPUOutOfMemoryError("no room");
        device.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error }));
      }
      return submit.call(this, buffers);
    }`);
  await openOn(page, "gpu", "probed");
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
  await expect(notice(page)).toHaveText(/^The GPU failed \(the GPU has no room for .*\); continuing on the CPU\.$/);
  await expect(notice(page)).not.toContainText("--dtype");
  await expect(device(page)).toHaveAttribute("data-device", "cpu");
});

test("does not blame the GPU for a worker that fails on the CPU", async ({ page }) => {
  const fail = `self.addEventListener("message", ({ data }) => {
    if (data.type === "ask") {
      throw new Error("out of order");
    }
  })`;
  await breakWorkers(page, fail, 1);
  const name = modelName("probed");
  await prefer(page, { device: "auto" });
  await remember(page, name, { cpu: 50, gpu: 5 });
  await page.goto(`/?test&model=${name}`);
  await expect(page.getByRole("status")).toHaveText("Ready");
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
  await expect(notice(page)).toBeHidden();
  await expect(device(page)).toContainText("The CPU is faster for this model");
});
