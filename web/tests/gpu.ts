// What tests of the model on a GPU do, which SwiftShader stands in for.

import { expect, type Locator, type Page } from "@playwright/test";

import type { AgreementResult, FromTests, ToTests } from "../src/testing";
import { modelName } from "./page";

export type DeviceChoice = "auto" | "cpu" | "gpu";

/** What only tests ask of the page's worker; `/?test` is a page whose worker listens. */
export interface TestHook {
  loseGpu(): void;
  agree(questions: string[], tokens: number): Promise<AgreementResult>;
}

/** Keeps hold of the page's worker, for tests to talk to behind the page's back. */
async function addTestHook(page: Page): Promise<void> {
  await page.addInitScript(() => {
    let newest: Worker | undefined;
    const tell = (message: FromTests) => newest?.postMessage(message);
    window.Worker = class extends Worker {
      constructor(...how: ConstructorParameters<typeof Worker>) {
        super(...how);
        newest = this;
      }
    };
    const morTest: TestHook = {
      loseGpu: () => tell({ type: "lose-gpu" }),
      agree: (questions, tokens) =>
        new Promise((resolve, reject) => {
          newest?.addEventListener("message", ({ data }: MessageEvent<ToTests>) => {
            if (data.type === "agree-done") {
              resolve(data.result);
            } else if (data.type === "agree-failed") {
              reject(new Error(data.problem.message));
            }
          });
          tell({ type: "agree", questions, tokens });
        }),
    };
    Object.assign(window, { morTest });
  });
}

/** Stores what a visitor would have chosen; for a first visit, since later ones remember. */
export async function prefer(page: Page, settings: { device: DeviceChoice } & Record<string, unknown>): Promise<void> {
  await addTestHook(page);
  await page.goto("/icon.svg");
  await page.evaluate((stored) => localStorage.setItem("mor-settings-v1", stored), JSON.stringify(settings));
}

/** Opens the page with a model and a chosen device. */
export async function openOn(page: Page, device: DeviceChoice, recipe: string, more = ""): Promise<string> {
  const name = modelName(recipe);
  await prefer(page, { device });
  await page.goto(`/?test&model=${name}${more}`);
  await expect(page.getByRole("status")).toHaveText("Ready");
  return name;
}

/** Stores speeds as an earlier visit would have: the faster device is known then. */
export async function remember(
  page: Page,
  model: string,
  speeds: { cpu: number; gpu: number },
  version: string | null = null,
): Promise<void> {
  await page.goto("/icon.svg");
  await page.evaluate(
    async ({ key, speeds, version }) => {
      const adapter = await navigator.gpu.requestAdapter();
      const { description, vendor, architecture, device } = adapter?.info ?? { description: "none" };
      const name = description || [vendor, architecture, device].filter((part) => part !== "").join(" ");
      const entry = { speeds, version, at: Date.now() };
      localStorage.setItem("mor-devices-v1", JSON.stringify({ [key]: { [name]: entry } }));
    },
    { key: `/models/${model}/`, speeds, version },
  );
}

/** Where the page says that the model runs. */
export const device = (page: Page): Locator => page.locator("#device-help");
export const notice = (page: Page): Locator => page.locator("#notice-text");

export async function choose(page: Page, device: DeviceChoice): Promise<void> {
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Runs on").selectOption(device);
  await page.getByRole("button", { name: "Close" }).click();
}

/** Loses the GPU each time that the answer has grown since it went on, `times` times. */
export async function loseMidAnswer(page: Page, times: number): Promise<void> {
  await page.evaluate((times) => {
    const { morTest } = window as unknown as { morTest: { loseGpu(): void } };
    let left = times;
    let seen = "";
    let told: string | null | undefined;
    new MutationObserver(() => {
      const text = document.querySelector('[data-role="assistant"][data-state="streaming"]')?.textContent ?? "";
      const notice = document.querySelector("#notice-text")?.textContent;
      // A token that was on its way is painted after the loss; a loss has been noticed once the page tells of it.
      if (left > 0 && text.length > seen.length && notice !== told) {
        left -= 1;
        seen = text;
        told = notice;
        morTest.loseGpu();
      }
    }).observe(document.querySelector('[role="log"]') ?? document.body, { childList: true, subtree: true });
  }, times);
}

/** Runs `script` in the page's workers before theirs; in the first `times` workers, if given. */
export async function breakWorkers(page: Page, script: string, times?: number): Promise<void> {
  await page.route(
    "**/worker-*.js",
    async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `{${script}};\n${await response.text()}` });
    },
    times === undefined ? {} : { times },
  );
}
