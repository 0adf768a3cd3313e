// What a visitor downloads, apart from the weights.

import { brotliCompressSync, constants } from "node:zlib";

import { expect, test } from "@playwright/test";

/** Bytes that everything but the weights may have, compressed. */
const MOST = 1.5e6;

test("everything but the weights is small", async ({ page, request }) => {
  const urls = new Set<string>();
  page.context().on("request", (request) => {
    if (request.method() === "GET") {
      urls.add(request.url());
    }
  });
  await page.goto("/");
  await expect(page.getByRole("status")).toHaveText("Ready");
  // What a page on a machine with a GPU would fetch besides.
  urls.add(new URL("/models/technical-10m/probe.json", page.url()).href);
  let total = 0;
  let module = false;
  let weights = false;
  for (const url of urls) {
    if (url.endsWith("/model.safetensors")) {
      weights = true;
      continue;
    }
    module ||= url.endsWith(".wasm");
    const response = await request.get(url);
    expect(response.ok(), url).toBe(true);
    const body = await response.body();
    const compressed = brotliCompressSync(body, {
      params: { [constants.BROTLI_PARAM_SIZE_HINT]: body.length },
    });
    console.log(`${String(body.length).padStart(9)} bytes, ${String(compressed.length).padStart(8)} as brotli: ${url}`);
    total += compressed.length;
  }
  console.log(`${total} bytes in all`);
  // Else this measured nothing.
  expect([module, weights]).toEqual([true, true]);
  expect(total).toBeLessThan(MOST);
});
