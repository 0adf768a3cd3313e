import { expect, test } from "@playwright/test";

import { answered, answers, openReady, send } from "./page";
import { LONG_REPLY } from "./replies.mjs";

test("says why there is no GPU, and writes on the CPU", async ({ page }) => {
  await openReady(page, "long");
  const adapter = page.locator("#adapter");
  await expect(adapter).toContainText(/WebGPU/);
  await expect(page.locator("#notice-text")).toBeHidden();
  await expect(page.getByRole("banner")).toContainText("CPU");

  await page.getByRole("button", { name: "Settings" }).click();
  await expect(page.locator("#device-help")).toHaveText("The model runs on the CPU. There is no GPU to use.");
  await page.getByLabel("Runs on").selectOption("gpu");
  await page.getByRole("button", { name: "Close" }).click();
  await expect(page.locator("#notice-text")).toContainText("There is no GPU to use, so the CPU writes.");
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
  // The choice stays, for a day on which there is one.
  await page.reload();
  await expect(page.getByLabel("Runs on")).toHaveValue("gpu");
});
