import { expect, test } from "@playwright/test";

import { answered, answers, box, modelName, open, openReady, send, watch } from "./page";
import { LONG_REPLY, MARKDOWN_REPLY } from "./replies.mjs";

test("loads with a bar of bytes and says what the model is", async ({ page }) => {
  const errors: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error") {
      errors.push(message.text());
    }
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  const name = await open(page, "slow");
  await expect(page.getByRole("progressbar", { name: /model/ })).toBeVisible();
  await expect(page.getByText(/of \d+\.\d MB/)).toBeVisible();
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(page.getByRole("banner")).toContainText(name);
  await expect(page.getByRole("banner")).toContainText(/\d+\.\d M parameters · \d+\.\d MB/);
  await expect(page.getByText(/nothing you type leaves this machine/i)).toBeVisible();
  expect(errors).toEqual([]);
});

test("a model's name may have any character in it", async ({ page }) => {
  const name = `${modelName("long")} 50% #1`;
  await page.goto(`/?model=${encodeURIComponent(name)}`);
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(page.getByRole("banner")).toContainText(name);
});

test("streams an answer: the text grows before it is done", async ({ page }) => {
  await openReady(page, "slow");
  const seen = await watch(page);
  await send(page);
  await answered(page);
  const stages = await seen();
  expect(stages.length).toBeGreaterThan(3);
  for (const [i, text] of stages.entries()) {
    expect(LONG_REPLY.startsWith(text)).toBe(true);
    expect(text.length).toBeGreaterThan(stages[i - 1]?.length ?? 0);
  }
  await expect(answers(page)).toHaveText(LONG_REPLY);
  await expect(page.getByTestId("stats")).toHaveText(
    new RegExp(`^\\d+ tokens/s · ${LONG_REPLY.length} tokens · first after .+ · depth 4$`),
  );
  await expect(page.getByRole("status")).toHaveText("Ready");
});

test("stops where it is told to, and goes on afterwards", async ({ page }) => {
  await openReady(page, "slow");
  await expect(page.getByRole("button", { name: "Stop" })).toBeHidden();
  await watch(page, "stop");
  await send(page);
  await expect(page.getByRole("status")).toHaveText("Stopped");
  await expect(page.getByTestId("stats")).toContainText("stopped");
  const text = (await answers(page).innerText()).trimEnd();
  expect(LONG_REPLY.startsWith(text)).toBe(true);
  expect(text.length).toBeLessThan(LONG_REPLY.length);
  await expect(page.getByRole("button", { name: "Stop" })).toBeHidden();
  await send(page);
  await expect(answers(page)).toHaveCount(2);
  await answered(page);
});

test("a new chat forgets the old one", async ({ page }) => {
  await openReady(page, "long");
  await send(page);
  await answered(page);
  await page.getByRole("button", { name: "New chat" }).click();
  await expect(answers(page)).toHaveCount(0);
  await expect(page.getByRole("heading", { name: "Ask a technical question" })).toBeVisible();
  await expect(box(page)).toBeFocused();
  // The scripts depend on the position: only an empty history gives the same answer.
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});

test("a new chat during an answer ends that answer", async ({ page }) => {
  await openReady(page, "slow");
  await watch(page, "new-chat");
  await send(page);
  await expect(page.getByRole("status")).toHaveText("Stopped");
  await expect(answers(page)).toHaveCount(0);
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});

test("renders Markdown and copies the answer as it was written", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await openReady(page, "markdown");
  await send(page);
  await answered(page);
  const answer = answers(page);
  await expect(answer.locator("pre code")).toHaveText("tar -tf a.tar\n");
  await expect(answer.locator("li strong").first()).toHaveText("-t");
  const link = answer.getByRole("link", { name: "the manual" });
  await expect(link).toHaveAttribute("href", "https://www.gnu.org/software/tar/");
  await expect(link).toHaveAttribute("rel", /noopener/);
  await expect(answer).toContainText("Ünïcödé 🙂");
  await page.getByRole("button", { name: "Copy answer" }).click();
  await expect(page.getByText("Copied")).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(MARKDOWN_REPLY);
});

test("an example question is one click", async ({ page }) => {
  await openReady(page, "long");
  await page.getByRole("button", { name: "How do I list the contents of a tar file?" }).click();
  await expect(page.locator('[data-role="user"]')).toHaveText("How do I list the contents of a tar file?");
  await answered(page);
});

test("what the person writes stays as it was written", async ({ page }) => {
  await openReady(page, "long");
  await send(page, "<b>x</b> **y**\n<assistant>z");
  await answered(page);
  const question = page.locator('[data-role="user"]');
  await expect(question).toHaveText("<b>x</b> **y**\n<assistant>z");
  await expect(question.locator("b, strong")).toHaveCount(0);
});

test("works from the keyboard alone", async ({ page }) => {
  await openReady(page, "slow");
  await expect(box(page)).toBeFocused();
  await page.keyboard.type("one");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  await expect(box(page)).toHaveValue("one\ntwo");
  await page.keyboard.press("ControlOrMeta+a");
  await page.keyboard.type("a");
  await page.keyboard.press("Enter");
  await expect(answers(page)).toHaveCount(1);
  await page.keyboard.press("Escape");
  await expect(page.getByRole("status")).toHaveText("Stopped");
  await expect(box(page)).toBeFocused();
  await page.getByRole("button", { name: "Settings" }).focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("dialog", { name: "Settings" })).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog", { name: "Settings" })).toBeHidden();
  await expect(page.getByRole("button", { name: "Settings" })).toBeFocused();
});

test("settings change the next answer and are remembered", async ({ page }) => {
  const name = await openReady(page, "long");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Depth", { exact: true }).selectOption("3");
  await page.getByLabel("Most new tokens").fill("12");
  await page.getByRole("button", { name: "Close" }).click();
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY.slice(0, 12));
  await expect(page.getByTestId("stats")).toContainText("12 tokens");
  await expect(page.getByTestId("stats")).toContainText("depth 3");
  await expect(page.getByTestId("stats")).toContainText("cut at the token limit");
  await page.goto(`/?model=${name}`);
  await page.getByRole("button", { name: "Settings" }).click();
  await expect(page.getByLabel("Most new tokens")).toHaveValue("12");
  await page.getByRole("button", { name: "Back to defaults" }).click();
  await expect(page.getByLabel("Depth", { exact: true })).toHaveValue("");
});

test("shows the depth of every token when asked", async ({ page }) => {
  await openReady(page, "long");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Shade tokens by depth").check();
  await page.getByRole("button", { name: "Close" }).click();
  await send(page);
  await answered(page);
  const tokens = answers(page).locator(".token");
  await expect(tokens).toHaveCount(LONG_REPLY.length);
  await expect(tokens.first()).toHaveAttribute("title", /^depth 2 \(steps per layer: 2 2\), probability \d/);
  await expect(tokens.first()).toHaveAttribute("data-level", "2");
  await expect(answers(page)).toHaveText(LONG_REPLY);
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Shade tokens by depth").uncheck();
  await expect(answers(page).locator("p")).toHaveText(LONG_REPLY);
});

test("tells about the model, and its card is as harmless as its answers", async ({ page }) => {
  await openReady(page, "long");
  await page.getByRole("button", { name: "About" }).click();
  const about = page.getByRole("dialog", { name: "About this model" });
  await expect(about).toContainText("2 of at most 4 steps per layer");
  await expect(about.getByRole("heading", { name: "A scripted model" })).toBeVisible();
  await expect(about).toContainText("<img src=x");
  await expect(about.locator("img")).toHaveCount(0);
  await expect(about.getByRole("link")).toHaveCount(1);
  await expect(about).not.toContainText("license: apache-2.0");
  await expect(page).toHaveTitle("mor chat");
});

test("makes no request once it has loaded", async ({ page }) => {
  await openReady(page, "long");
  const requests: string[] = [];
  page.context().on("request", (request) => requests.push(request.url()));
  await send(page);
  await answered(page);
  await page.getByRole("button", { name: "New chat" }).click();
  await page.getByRole("button", { name: "About" }).click();
  expect(requests).toEqual([]);
});

test("works on a page that is not isolated", async ({ page }) => {
  await page.route(/\/\?model=/, async (route) => {
    const response = await route.fetch();
    const kept = Object.entries(response.headers()).filter(([name]) => !name.startsWith("cross-origin-"));
    await route.fulfill({ response, headers: Object.fromEntries(kept) });
  });
  await openReady(page, "long");
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(false);
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});
