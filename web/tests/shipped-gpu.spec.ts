// The shipped model on a GPU, which SwiftShader stands in for, against the CPU.

import { expect, type Page, test } from "@playwright/test";

import { CHROMIUM, GPU_ARGS } from "./browser.mjs";
import { device as running, notice, prefer, type TestHook } from "./gpu";
import { answered, answers, send } from "./page";

const MODEL = "technical-10m";
// SwiftShader takes half a second for one; longer answers, and more of them, are compared natively.
const TOKENS = 8;
const QUESTIONS = [
  "How do I list the contents of a tar file?",
  "What does `git stash` do?",
  "Write a Python function to reverse a string.",
  "What does the acronym DNS stand for?",
  "What is a mutex?",
];

test.use({ launchOptions: { executablePath: CHROMIUM, args: GPU_ARGS } });

async function openOn(page: Page, device: "cpu" | "gpu", settings: object = {}): Promise<void> {
  await prefer(page, { device, ...settings });
  await page.goto(`/?test&model=${MODEL}`);
  await expect(page.getByRole("status")).toHaveText("Ready", { timeout: 120_000 });
  await expect(running(page)).toHaveAttribute("data-device", device);
}

/** Prints where the time until the first token went. */
async function printStartup(page: Page, what: string): Promise<void> {
  const parts = await page.locator("[data-part]").evaluateAll((elements) =>
    elements.map((element) => `${(element as HTMLElement).dataset["part"]}: ${element.textContent}`),
  );
  console.log(`${what}\n  ${parts.join("\n  ")}`);
}

test("the GPU answers what the CPU answers", async ({ page }) => {
  test.setTimeout(300_000);
  const texts: string[] = [];
  for (const device of ["cpu", "gpu"] as const) {
    await openOn(page, device);
    await page.reload();
    await expect(page.getByRole("status")).toHaveText("Ready", { timeout: 120_000 });
    await send(page, QUESTIONS[0]);
    await answered(page);
    await printStartup(page, `Startup on the ${device}, weights from the cache:`);
    console.log(await page.getByTestId("stats").textContent());
    texts.push(await answers(page).innerText());
  }
  await expect(notice(page)).toBeHidden();
  expect(texts[0]).toContain("tar");
  expect(texts[1]).toBe(texts[0]);
});

test("the same seed gives the same answer on CPU and GPU", async ({ page }) => {
  test.setTimeout(300_000);
  const texts: string[] = [];
  for (const device of ["cpu", "gpu"] as const) {
    await openOn(page, device, { temperature: 1, topK: 0, topP: 1, seed: 11, maxNewTokens: 20 });
    await send(page, QUESTIONS[1]);
    await answered(page);
    texts.push(await answers(page).innerText());
  }
  console.log(texts[0]);
  expect(texts[0]?.length).toBeGreaterThan(10);
  expect(texts[1]).toBe(texts[0]);
});

test("CPU and GPU find the same tokens likeliest", async ({ page }) => {
  test.setTimeout(900_000);
  await openOn(page, "gpu");
  const result = await page.evaluate(
    ({ questions, tokens }) => (window as unknown as { morTest: TestHook }).morTest.agree(questions, tokens),
    { questions: QUESTIONS, tokens: TOKENS },
  );
  const share = result.equal / result.tokens;
  console.log(`${result.equal} of ${result.tokens} tokens agree (${(share * 100).toFixed(2)} %), ${result.seconds.toFixed(0)} s`);
  expect(result.tokens).toBe(QUESTIONS.length * TOKENS);
  expect(share).toBeGreaterThanOrEqual(0.99);
});
