// Models whose routers decide depth, on a GPU, which SwiftShader stands in for, against the CPU: the kernels of every
// routing and of every type of weights must compile in a browser, whose compiler is not naga, and compute the same.

import { expect, type Page, test } from "@playwright/test";

import { CHROMIUM, GPU_ARGS } from "./browser.mjs";
import { device as running, loseMidAnswer, notice, prefer, type TestHook } from "./gpu";
import { answered, answers, modelName, send } from "./page";

test.use({ launchOptions: { executablePath: CHROMIUM, args: GPU_ARGS } });

/** SwiftShader takes up to a second for a token with the workgroup kernels. */
const TOKENS = { portable: 24, workgroup: 8 } as const;
type Kernels = keyof typeof TOKENS;
const QUESTIONS = ["a", "list files", "tar"];

/** Opens a model; answers are greedy and short, and show the depth of each token. */
async function openOn(page: Page, device: "cpu" | "gpu", recipe: string, kernels: Kernels): Promise<void> {
  await prefer(page, { device, temperature: 0, maxNewTokens: TOKENS[kernels], showDepth: true });
  await page.goto(`/?test&model=${modelName(recipe)}&kernels=${kernels}`);
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(notice(page)).toBeHidden();
  await expect(running(page)).toHaveAttribute("data-device", device);
}

/** Text and steps of every token of an answer. */
async function answer(page: Page): Promise<string[]> {
  await send(page, QUESTIONS[1]);
  await answered(page);
  return answers(page).locator(".token").evaluateAll((tokens) =>
    tokens.map((token) => `${token.textContent}: ${/\(.*\)/.exec((token as HTMLElement).title)?.[0] ?? ""}`),
  );
}

// Each family with each way of pooling; each type of weights with both kernels somewhere. All of them together are
// compared natively. With int8 weights the CPU rounds its inputs to int8 as well, which the GPU does not.
const CASES: [recipe: string, kernels: Kernels, least: number][] = [
  ["technical-sequence-F32", "portable", 0.99],
  ["technical-real-F16", "workgroup", 0.99],
  ["technical-prefix-I8", "portable", 0.8],
  ["conversational-sequence-I8", "workgroup", 0.8],
  ["conversational-real-F16", "portable", 0.99],
  ["conversational-prefix-F32", "workgroup", 0.99],
];

for (const [recipe, kernels, least] of CASES) {
  test(`${recipe} with ${kernels} kernels`, async ({ page }) => {
    await openOn(page, "gpu", recipe, kernels);
    const onGpu = await answer(page);
    const result = await page.evaluate(
      ({ questions, tokens }) => (window as unknown as { morTest: TestHook }).morTest.agree(questions, tokens),
      { questions: QUESTIONS, tokens: TOKENS[kernels] },
    );
    const depths = new Set(onGpu.map((token) => token.split(": (")[1])).size;
    console.log(`${recipe}: ${result.equal} of ${result.tokens} tokens agree; ${depths} different depths`);
    expect(result.equal / result.tokens).toBeGreaterThanOrEqual(least);
    if (least > 0.9) {
      // Else a router that always decides the same would pass.
      expect(depths).toBeGreaterThan(1);
      await openOn(page, "cpu", recipe, kernels);
      expect(onGpu).toEqual(await answer(page));
    }
  });
}

// What they write depends on every token before, unlike what made-up models with one answer write.
for (const [recipe, losses] of [["technical-prefix-F32", 1], ["conversational-sequence-F32", 3]] as const) {
  test(`${recipe} goes on where it was when the GPU is lost (${losses})`, async ({ page }) => {
    await openOn(page, "cpu", recipe, "portable");
    const expected = await answer(page);
    await openOn(page, "gpu", recipe, "portable");
    await loseMidAnswer(page, losses);
    expect(await answer(page)).toEqual(expected);
    await expect(notice(page)).toContainText(`continuing on ${losses > 2 ? "the CPU" : "it again"}`);
  });
}
