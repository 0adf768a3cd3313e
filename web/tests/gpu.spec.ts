// The model on a GPU, which SwiftShader stands in for: choosing it, losing it, and not trusting it.

import { expect, type Page, test } from "@playwright/test";

import { CHROMIUM, GPU_ARGS } from "./browser.mjs";
import { answered, answers, modelName, send } from "./page";
import { LONG_REPLY } from "./replies.mjs";

test.use({ launchOptions: { executablePath: CHROMIUM, args: GPU_ARGS } });

/** Opens the page with a model and a chosen device. */
async function openOn(page: Page, device: "auto" | "cpu" | "gpu", recipe: string, more = ""): Promise<string> {
  const name = modelName(recipe);
  // Only at the first visit: later ones remember.
  await page.goto("/icon.svg");
  await page.evaluate((device) => localStorage.setItem("mor-settings-v1", JSON.stringify({ device })), device);
  await page.goto(`/?test&model=${name}${more}`);
  await expect(page.getByRole("status")).toHaveText("Ready");
  return name;
}

const device = (page: Page) => page.locator("#device-help");
const notice = (page: Page) => page.locator("#notice-text");
const bar = (page: Page) => page.getByRole("banner");

async function choose(page: Page, device: "auto" | "cpu" | "gpu"): Promise<void> {
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Runs on").selectOption(device);
  await page.getByRole("button", { name: "Close" }).click();
}

/** Loses the GPU each time that the answer has grown, `times` times. */
async function loseMidAnswer(page: Page, times: number): Promise<void> {
  await page.evaluate((times) => {
    const { morTest } = window as unknown as { morTest: { loseGpu(): void } };
    let left = times;
    let seen = "";
    new MutationObserver(() => {
      const text = document.querySelector('[data-role="assistant"][data-state="streaming"]')?.textContent ?? "";
      if (left > 0 && text.length > seen.length) {
        left -= 1;
        seen = text;
        morTest.loseGpu();
      }
    }).observe(document.querySelector('[role="log"]') ?? document.body, { childList: true, subtree: true });
  }, times);
}

for (const where of ["cpu", "gpu"] as const) {
  test(`answers on the ${where}, and remembers that it was chosen`, async ({ page }) => {
    await openOn(page, where, "probed");
    for (const visit of ["first", "second"]) {
      await expect(device(page)).toHaveAttribute("data-device", where);
      await expect(device(page)).toContainText(`You chose the ${where.toUpperCase()}`);
      await expect(bar(page)).toContainText(where === "gpu" ? /GPU: \S+/ : "CPU");
      await expect(page.locator("#adapter")).toContainText(/GPU: \S+/);
      await expect(notice(page)).toBeHidden();
      await send(page);
      await answered(page);
      await expect(answers(page), visit).toHaveText(LONG_REPLY);
      await page.reload();
      await expect(page.getByRole("status")).toHaveText("Ready");
    }
  });
}

// A browser's GPU gets the workgroup kernels, and SwiftShader the portable ones: both must compile in a browser, whose
// compiler is not naga, and compute the same. Subgroup operations wgpu cannot ask a browser for.
for (const kernels of ["portable", "workgroup"]) {
  test(`answers with the ${kernels} kernels`, async ({ page }) => {
    await openOn(page, "gpu", "probed", `&kernels=${kernels}`);
    await expect(notice(page)).toBeHidden();
    await expect(page.locator("#adapter")).toContainText(`(${kernels} kernels)`);
    await expect(page.locator('[data-part="probe"]')).toContainText(/a logit is .* off/);
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByLabel("Most new tokens").fill("8");
    await page.getByRole("button", { name: "Close" }).click();
    await send(page);
    await answered(page);
    await expect(answers(page)).toHaveText(LONG_REPLY.slice(0, 8));
  });
}

test("tells what startup took, in parts", async ({ page }) => {
  await openOn(page, "gpu", "probed");
  await page.reload();
  await expect(page.getByRole("status")).toHaveText("Ready");
  await send(page);
  await answered(page);
  for (const part of ["module", "weights", "tokenizer", "device", "GPU weights", "pipelines", "probe", "ready", "first token"]) {
    await expect(page.locator(`[data-part="${part}"]`)).toHaveAttribute("data-ms", /^\d+\.\d$/);
  }
  await expect(page.locator('[data-part="weights"]')).toContainText("from this browser's cache");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByText(/^Startup took \d/).click();
  await expect(page.locator('[data-part="device"]')).toBeVisible();
});

test("goes from device to device between answers and within one", async ({ page }) => {
  await openOn(page, "cpu", "probed");
  await send(page);
  await answered(page);
  await choose(page, "gpu");
  await expect(device(page)).toHaveAttribute("data-device", "gpu");
  await page.getByRole("button", { name: "New chat" }).click();
  await send(page);
  await expect(answers(page)).not.toBeEmpty();
  // SwiftShader takes seconds for an answer.
  await choose(page, "cpu");
  await expect(device(page)).toHaveAttribute("data-device", "cpu");
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});

/** Breaks WebGPU in the page's workers, in a way that the engine cannot catch. */
async function breakWorkers(page: Page, script: string): Promise<void> {
  await page.route("**/worker-*.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `{${script}};\n${await response.text()}` });
  });
}

for (const choice of ["gpu", "auto"] as const) {
  test(`loads without a GPU that brings the worker down (${choice})`, async ({ page }) => {
    await breakWorkers(page, "GPUDevice.prototype.createComputePipeline = () => { throw new Error('out of order') }");
    await openOn(page, choice, "probed");
    await expect(notice(page)).toContainText(/so the CPU writes.*out of order/);
    await expect(device(page)).toHaveAttribute("data-device", "cpu");
    await send(page);
    await answered(page);
    await expect(answers(page)).toHaveText(LONG_REPLY);
  });
}

test("loads anew when the GPU brings the worker down later", async ({ page }) => {
  await breakWorkers(page, `
    let submits = 0;
    const submit = GPUQueue.prototype.submit;
    GPUQueue.prototype.submit = function (buffers) {
      submits += 1;
      if (submits === 60) {
        throw new Error("out of order");
      }
      return submit.call(this, buffers);
    }`);
  await openOn(page, "gpu", "probed");
  await expect(device(page)).toHaveAttribute("data-device", "gpu");
  await send(page);
  await expect(answers(page)).toHaveAttribute("data-state", "failed");
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(notice(page)).toContainText("so the CPU writes");
  await page.getByRole("button", { name: "New chat" }).click();
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});

for (const [when, results] of [["it starts", 1], ["it writes", 6]] as const) {
  test(`loads without a GPU that does not answer when ${when}`, async ({ page }) => {
    await breakWorkers(page, `
      let results = 0;
      const mapAsync = GPUBuffer.prototype.mapAsync;
      GPUBuffer.prototype.mapAsync = function (...which) {
        results += 1;
        return results < ${results} ? mapAsync.apply(this, which) : new Promise(() => undefined);
      }`);
    await openOn(page, "gpu", "probed", "&patience=6");
    if (results > 1) {
      await send(page);
      await expect(answers(page)).toHaveAttribute("data-state", "failed");
      await expect(page.getByRole("status")).toHaveText("Ready");
      await page.getByRole("button", { name: "New chat" }).click();
    }
    await expect(notice(page)).toContainText("It did not answer within 6 seconds.");
    await expect(device(page)).toHaveAttribute("data-device", "cpu");
    await send(page);
    await answered(page);
    await expect(answers(page)).toHaveText(LONG_REPLY);
  });
}

test("goes on when the GPU is lost while it writes", async ({ page }) => {
  await openOn(page, "gpu", "probed");
  await loseMidAnswer(page, 1);
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
  await expect(notice(page)).toContainText("The GPU was lost");
  await expect(notice(page)).toContainText("continuing on it again");
  await expect(device(page)).toHaveAttribute("data-device", "gpu");
});

test("goes on when the browser's GPU process crashes while it writes", async ({ page, browser }) => {
  await openOn(page, "gpu", "probed");
  await send(page);
  await expect(answers(page)).not.toBeEmpty();
  const devtools = await browser.newBrowserCDPSession();
  await devtools.send("Browser.crashGpuProcess");
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
  await expect(notice(page)).toContainText("The GPU was lost");
});

test("goes on when the GPU is lost between two answers", async ({ page }) => {
  await openOn(page, "gpu", "probed");
  await page.evaluate(() => (window as unknown as { morTest: { loseGpu(): void } }).morTest.loseGpu());
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
  await expect(notice(page)).toContainText("The GPU was lost");
});

test("goes on with the CPU when the GPU is lost again and again", async ({ page }) => {
  await openOn(page, "gpu", "probed");
  await loseMidAnswer(page, 3);
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
  await expect(notice(page)).toContainText("continuing on the CPU");
  await expect(device(page)).toHaveAttribute("data-device", "cpu");
  await expect(page.locator("#adapter")).toContainText("The GPU was lost");
  await page.getByRole("button", { name: "Dismiss" }).click();
  await expect(notice(page)).toBeHidden();
});

for (const choice of ["gpu", "auto"] as const) {
  test(`does not trust a GPU that computes something else (${choice})`, async ({ page }) => {
    await openOn(page, choice, "wrong-probe");
    await expect(notice(page)).toContainText("The GPU gave other results than expected, so the CPU writes");
    await expect(device(page)).toHaveAttribute("data-device", "cpu");
    await expect(page.locator("#adapter")).toContainText("other results than expected");
    await send(page);
    await answered(page);
    await expect(answers(page)).toHaveText(LONG_REPLY);
  });
}

test("does not trust a GPU that it cannot check", async ({ page }) => {
  await openOn(page, "gpu", "corrupt-probe");
  await expect(notice(page)).toContainText(/The GPU could not be used, so the CPU writes \(probe\.json: .*export/);
  await expect(device(page)).toHaveAttribute("data-device", "cpu");
});

test("finds out which device is faster, says so, and remembers it", async ({ page }) => {
  await openOn(page, "auto", "probed");
  await expect(device(page)).toHaveText(
    /^The model runs on the (CPU|GPU)\. The \1 is faster for this model: \d[\d.]* tokens\/s against \d[\d.]* tokens\/s on the .*, measured just now\.$/,
  );
  const chosen = await device(page).getAttribute("data-device");
  await page.reload();
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(device(page)).toContainText("measured at an earlier visit");
  await expect(device(page)).toHaveAttribute("data-device", chosen ?? "");
  // For a month.
  await page.clock.setFixedTime(Date.now() + 31 * 24 * 3600 * 1000);
  await page.reload();
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(device(page)).toContainText("measured just now");
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});
