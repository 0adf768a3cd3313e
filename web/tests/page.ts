// What most tests do with the page.

import { expect, type Locator, type Page } from "@playwright/test";

import { QUESTION } from "./models.mjs";

let tags = 0;

/** An address of its own for a made-up model. */
export function modelName(recipe: string): string {
  tags += 1;
  return `${recipe}@${process.pid}-${tags}`;
}

/** Opens the page with a model; returns the model's name. */
export async function open(page: Page, recipe: string): Promise<string> {
  const name = modelName(recipe);
  await page.goto(`/?model=${name}`);
  return name;
}

/** Opens the page and waits until it can be used. */
export async function openReady(page: Page, recipe: string): Promise<string> {
  const name = await open(page, recipe);
  await expect(page.getByRole("status")).toHaveText("Ready");
  return name;
}

export function box(page: Page): Locator {
  return page.getByRole("textbox", { name: "Message" });
}

export function answers(page: Page): Locator {
  return page.locator('[data-role="assistant"]');
}

/** Sends a message through the form; the default is the one question the made-up models know. */
export async function send(page: Page, text: string = QUESTION): Promise<void> {
  await box(page).fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

/** Waits for the answer to end. */
export async function answered(page: Page): Promise<void> {
  await expect(answers(page).last()).toHaveAttribute("data-state", "done");
  await expect(page.getByTestId("stats")).toBeVisible();
}

/**
 * Notes every state of the answer that the page paints from now on, and presses a button at the first text, once, if asked to.
 * A machine may write an answer faster than a test can look or press, so the page does both itself.
 */
export async function watch(page: Page, press?: "stop" | "new-chat"): Promise<() => Promise<string[]>> {
  await page.evaluate((button) => {
    let press = button;
    const seen: string[] = [];
    (window as unknown as { seen: string[] }).seen = seen;
    new MutationObserver(() => {
      const answer = document.querySelector<HTMLElement>('[data-role="assistant"][data-state="streaming"]');
      const text = answer?.textContent?.trimEnd() ?? "";
      if (text !== "" && text !== seen.at(-1)) {
        seen.push(text);
        if (press !== undefined) {
          document.getElementById(press)?.click();
          press = undefined;
        }
      }
    }).observe(document.querySelector('[role="log"]') ?? document.body, { childList: true, subtree: true });
  }, press);
  return () => page.evaluate(() => (window as unknown as { seen: string[] }).seen);
}
