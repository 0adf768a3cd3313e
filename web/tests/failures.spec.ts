import { expect, test } from "@playwright/test";

import { answered, answers, box, open, send } from "./page";
import { LONG_REPLY } from "./replies.mjs";

const CASES: [recipe: string, what: string, message: RegExp][] = [
  ["missing", "missing weights", /model\.safetensors is missing from \/models\/missing@.*answered 404/],
  ["missing-tokenizer", "a missing tokenizer", /tokenizer\.json is missing from/],
  ["fallback", "a server that answers a missing file with a page", /model\.safetensors is missing from/],
  ["truncated", "truncated weights", /model\.safetensors: not a whole safetensors file/],
  ["broken", "a connection that breaks", /model\.safetensors is incomplete/],
  ["corrupt-config", "a config that is no JSON", /config\.json: not a model configuration/],
  ["corrupt-tokenizer", "a tokenizer that is cut", /tokenizer\.json/],
  ["not-finite", "weights that are no numbers", /model\.safetensors: tensor `.*` holds NaN/],
  ["other-weights", "weights of another model", /model\.safetensors: does not fit config\.json/],
];

for (const [recipe, what, message] of CASES) {
  test(`says what is wrong with ${what}`, async ({ page }) => {
    await open(page, recipe);
    const alert = page.getByRole("alert");
    await expect(alert).toContainText(message);
    await expect(page.getByRole("button", { name: "Try again" })).toBeFocused();
    await expect(page.getByRole("status")).toHaveText("The model could not be loaded.");
    await box(page).fill("a");
    await expect(page.getByRole("button", { name: "Send" })).toBeDisabled();
  });
}

test("trying again works once the fault is gone", async ({ page }) => {
  await open(page, "flaky");
  await expect(page.getByRole("alert")).toContainText("model.safetensors is missing");
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(page.getByRole("alert")).toBeHidden();
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});

test("a chat template in a file of its own is read", async ({ page }) => {
  await open(page, "template-file");
  await expect(page.getByRole("status")).toHaveText("Ready");
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});

test("a question longer than the context is refused in words and not lost, and the next one works", async ({ page }) => {
  await open(page, "long");
  await expect(page.getByRole("status")).toHaveText("Ready");
  // As a paste does, which a limit on the box would cut.
  const question = "0 1 2 3 4 5 6 7 8 9 ".repeat(500).trim();
  await box(page).focus();
  await page.keyboard.insertText(question);
  await expect(box(page)).toHaveValue(question);
  await page.keyboard.press("Enter");
  await expect(answers(page)).toHaveAttribute("data-state", "failed");
  await expect(page.getByRole("alert")).toContainText(/context/);
  await expect(box(page)).toHaveValue(question);
  await send(page);
  await expect(answers(page).last()).toHaveText(LONG_REPLY);
  await expect(box(page)).toHaveValue("");
});
