// The shipped model in the page, and the page behind `mor serve` where that program is at hand.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { expect, type Page, test } from "@playwright/test";

import { answered, answers, send } from "./page";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MOR = process.env["MOR"];
const QUESTION = "How do I list the contents of a tar file?";

test.skip(!existsSync(`${ROOT}models/technical-10m/model.safetensors`), "models/technical-10m is not there yet");

async function asksAboutTar(page: Page, url: string): Promise<void> {
  const opened = Date.now();
  await page.goto(url);
  await expect(page.getByRole("status")).toHaveText("Ready");
  const ready = Date.now();
  await send(page, QUESTION);
  await expect(answers(page)).not.toBeEmpty();
  const first = Date.now();
  await answered(page);
  await expect(answers(page)).toContainText("tar");
  const stats = await page.getByTestId("stats").textContent();
  console.log(`ready after ${ready - opened} ms, first words after ${first - opened} ms; ${stats}`);
  console.log(await answers(page).innerText());
}

test("the shipped model answers about tar", async ({ page }) => {
  await asksAboutTar(page, "/");
});

test.describe("behind mor serve", () => {
  test.skip(MOR === undefined || !existsSync(MOR), "MOR names no program");
  let server: ChildProcess;
  let url: string;

  test.beforeAll(async () => {
    server = spawn(MOR ?? "", ["serve", "--dir", "web/dist", "--model", "models/technical-10m", "--port", "0"], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "inherit"],
    });
    url = await new Promise<string>((resolve, reject) => {
      server.once("error", reject);
      server.once("exit", (code) => reject(new Error(`mor serve ended with code ${code}`)));
      server.stdout?.once("data", (line: Buffer) => resolve(line.toString().trim()));
    });
  });

  test.afterAll(() => void server?.kill());

  test("the page is isolated and answers", async ({ page }) => {
    await asksAboutTar(page, url);
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
  });
});
