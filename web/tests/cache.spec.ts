import { expect, test } from "@playwright/test";

import { notice } from "./gpu";
import { answered, answers, openReady, send } from "./page";
import { LONG_REPLY } from "./replies.mjs";

test("a second visit takes the model from the cache", async ({ page, request }) => {
  const name = await openReady(page, "long");
  const fetches = async () => {
    const response = await request.get(`/requests?of=${encodeURIComponent(`/models/${name}/model.safetensors`)}`);
    return Number(await response.text());
  };
  expect(await fetches()).toBe(1);
  await page.reload();
  await expect(page.getByRole("status")).toHaveText("Ready");
  expect(await fetches()).toBe(1);
  await page.getByRole("button", { name: "About" }).click();
  await expect(page.getByRole("dialog")).toContainText("this browser's cache");
  await page.getByRole("button", { name: "Close" }).click();
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});

test("a second visit works when the model cannot be reached", async ({ page, context }) => {
  await openReady(page, "long");
  await context.route("**/models/**", (route) => route.abort("connectionrefused"));
  await page.reload();
  await expect(page.getByRole("status")).toHaveText("Ready");
  await expect(notice(page)).toContainText("this is the copy that this browser kept");
  await send(page);
  await answered(page);
  await expect(answers(page)).toHaveText(LONG_REPLY);
});

test("a damaged copy is fetched again", async ({ page }) => {
  const name = await openReady(page, "long");
  await page.evaluate(async (folder) => {
    const cache = await caches.open("mor-model-v1");
    const url = new URL(`models/${folder}/model.safetensors`, document.baseURI).href;
    const copy = await cache.match(url);
    if (copy === undefined) {
      throw new Error("the weights were not cached");
    }
    await cache.put(url, new Response(new Uint8Array(10), { headers: copy.headers }));
  }, name);
  await page.reload();
  await expect(page.getByRole("status")).toHaveText("Ready");
});
