// The model on a GPU, which SwiftShader stands in for: choosing it and losing it.

import { expect, type Page, test } from "@playwright/test";

import { CHROMIUM, GPU_ARGS } from "./browser.mjs";
import { breakWorkers, choose, device, loseMidAnswer, notice, openOn, prefer, remember, type TestHook } from "./gpu";
import { answered, answers, modelName, send } from "./page";
import { GPU_REPLY, LONG_REPLY } from "./replies.mjs";

test.use({ launchOptions: { executablePath: CHROMIUM, args: GPU_ARGS } });

/** Of what startup took on a device alone. */
const PARTS = { cpu: ["CPU weights"], gpu: ["device", "GPU weights", "pipelines", "probe"] };

const bar = (page: Page) => page.getByRole("banner");

for (const where of ["cpu", "gpu"] as const) {
  test(`answers on the ${where}, remembers that it was chosen, and tells what startup took`, async ({ page }) => {
    await openOn(page, where, "probed");
    for (const visit of ["first", "second"]) {
      await expect(device(page)).toHaveAttribute("data-device", where);
      await expect(device(page)).toContainText(`You chose the ${where.toUpperCase()}`);
      await expect(bar(page)).toContainText(where === "gpu" ? /GPU: \S+/ : "CPU");
      await expect(page.locator("#adapter")).toContainText(/GPU: \S+/);
      await expect(notice(page)).toBeHidden();
      await send(page);
      await answered(page);
      await expect(answers(page), visit).toHaveText(GPU_REPLY);
      if (visit === "first") {
        await page.reload();
        await expect(page.getByRole("status")).toHaveText("Ready");
      }
    }
    for (const part of ["module", "weights", "tokenizer", ...PARTS[where], "ready", "first token"]) {
      await expect(page.locator(`[data-part="${part}"]`)).toHaveAttribute("data-ms", /^\d+\.\d$/);
    }
    await expect(page.locator('[data-part="weights"]')).toContainText("from this browser's cache");
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByText(/^Startup took \d/).click();
    await expect(page.locator('[data-part="ready"]')).toBeVisible();
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
    await expect(answers(page)).toHaveText(GPU_REPLY.slice(0, 8));
  });
}

test("goes from device to device between answers and within one", async ({ page }) => {
  await openOn(page, "cpu", "probed-long");
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

test("goes on when the GPU is lost while it writes", async ({ page }) => {
  await openOn(page, "gpu", "probed");
  await loseMidAnswer(page, 1);
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
  await expect(notice(page)).toContainText("The GPU was lost");
  await expect(notice(page)).toContainText("continuing on it again");
  await expect(device(page)).toHaveAttribute("data-device", "gpu");
});

test("goes on when the browser's GPU process crashes while it writes", async ({ page, browser }) => {
  await openOn(page, "gpu", "probed-long");
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
  await page.evaluate(() => (window as unknown as { morTest: TestHook }).morTest.loseGpu());
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
  await expect(notice(page)).toContainText("The GPU was lost");
});

test("goes on with the CPU when the GPU is lost again and again", async ({ page }) => {
  await openOn(page, "gpu", "probed");
  await loseMidAnswer(page, 3);
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
  await expect(notice(page)).toContainText("continuing on the CPU");
  await expect(device(page)).toHaveAttribute("data-device", "cpu");
  await expect(page.locator("#adapter")).toContainText("The GPU was lost");
  await page.getByRole("button", { name: "Dismiss" }).click();
  await expect(notice(page)).toBeHidden();
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
  await expect(answers(page)).toHaveText(GPU_REPLY);
});

test("goes to the GPU where it is known to be faster", async ({ page }) => {
  const name = modelName("probed");
  await prefer(page, { device: "auto" });
  await remember(page, name, { cpu: 5, gpu: 50 });
  await page.goto(`/?test&model=${name}`);
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(device(page)).toHaveText(
    "The model runs on the GPU. The GPU is faster for this model: 50 tokens/s against 5.0 tokens/s on the CPU, measured at an earlier visit.",
  );
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
});

test("measures other weights, and other kernels, anew", async ({ page }) => {
  const name = modelName("probed");
  await prefer(page, { device: "auto" });
  await remember(page, name, { cpu: 50, gpu: 5 }, '"others"');
  for (const kernels of ["&kernels=portable", ""]) {
    await page.goto(`/?test&model=${name}${kernels}`);
    await expect(page.getByRole("status")).toHaveText("Ready");
    await expect(device(page)).toContainText("measured just now");
  }
  await choose(page, "cpu");
  await expect(device(page)).toContainText("You chose the CPU");
  await choose(page, "auto");
  await expect(device(page)).toContainText("measured at this visit");
});

test("measures with a context that is soon full", async ({ page }) => {
  await openOn(page, "auto", "short");
  await expect(notice(page)).toBeHidden();
  await expect(device(page)).toContainText("measured just now");
});

test("gives the GPU back when the CPU is chosen", async ({ page }) => {
  await breakWorkers(page, `
    const destroy = GPUDevice.prototype.destroy;
    GPUDevice.prototype.destroy = function () {
      self.postMessage({ type: "notice", text: "A device was given back." });
      return destroy.call(this);
    }`);
  await openOn(page, "gpu", "probed");
  await choose(page, "cpu");
  await expect(device(page)).toHaveAttribute("data-device", "cpu");
  await expect(notice(page)).toHaveText("A device was given back.");
  await choose(page, "gpu");
  await expect(device(page)).toHaveAttribute("data-device", "gpu");
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(GPU_REPLY);
});

test("says which GPU there is once the browser tells, and fetches nothing for it", async ({ page }) => {
  await breakWorkers(page, `
    const ask = GPU.prototype.requestAdapter;
    const told = new Promise((tell) => new BroadcastChannel("tell").onmessage = tell);
    GPU.prototype.requestAdapter = async function (options) {
      await told;
      return ask.call(this, options);
    }`);
  await openOn(page, "cpu", "probed");
  await expect(device(page)).toHaveText("The model runs on the CPU. You chose the CPU.");
  await expect(page.locator("#adapter")).toBeEmpty();
  const requests: string[] = [];
  page.context().on("request", (request) => requests.push(request.url()));
  await page.evaluate(() => {
    new BroadcastChannel("tell").postMessage("");
  });
  await expect(page.locator("#adapter")).toContainText(/GPU: \S+/);
  await choose(page, "gpu");
  await expect(device(page)).toHaveAttribute("data-device", "gpu");
  await send(page);
  await answered(page);
  expect(requests).toEqual([]);
});

test("says what it is doing while it goes to another device", async ({ page }) => {
  await openOn(page, "cpu", "probed");
  await page.evaluate(() => {
    const seen: (string | null)[] = [];
    (window as unknown as { seen: (string | null)[] }).seen = seen;
    const help = document.querySelector("#device-help");
    new MutationObserver(() => seen.push(help?.textContent ?? null)).observe(help ?? document.body, { childList: true });
  });
  await choose(page, "gpu");
  await expect(device(page)).toContainText("You chose the GPU");
  expect(await page.evaluate(() => (window as unknown as { seen: string[] }).seen)).toContain("Going to the GPU…");
});
