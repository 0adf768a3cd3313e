// The bar's figures while files arrive, without a browser.

import { expect, test } from "@playwright/test";

import { Progress } from "../src/progress";

test("there is no total before every file has told its size", () => {
  const progress = new Progress(["config", "weights"], "weights");
  expect(progress.note("config", 0, 100)).toEqual({ loaded: 0, total: null });
  expect(progress.note("config", 100, 100)).toEqual({ loaded: 100, total: null });
  expect(progress.note("weights", 0, 9_900)).toEqual({ loaded: 100, total: 10_000 });
  expect(progress.note("weights", 9_900, 9_900)).toEqual({ loaded: 10_000, total: 10_000 });
});

test("the share never falls while a small file of unknown size arrives", () => {
  const progress = new Progress(["tokenizer", "weights"], "weights");
  progress.note("tokenizer", 0, undefined);
  let before = 0;
  for (let part = 0; part <= 10; part++) {
    progress.note("tokenizer", part * 50, undefined);
    const { loaded, total } = progress.note("weights", part * 500, 5_000);
    const share = loaded / (total ?? 1);
    expect(share).toBeGreaterThanOrEqual(before);
    before = share;
  }
  expect(before).toBe(1);
});

test("weights of unknown size have no total", () => {
  const progress = new Progress(["config", "weights"], "weights");
  progress.note("config", 0, 10);
  expect(progress.note("weights", 70, undefined)).toEqual({ loaded: 70, total: null });
});
