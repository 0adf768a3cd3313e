// What is built to be served has nothing in it that only tests use.

import { readdir, readFile } from "node:fs/promises";

import { expect, test } from "@playwright/test";

/** All scripts of a build. */
async function scripts(folder: string): Promise<string> {
  const assets = new URL(`../${folder}/assets/`, import.meta.url);
  const names = (await readdir(assets)).filter((name) => name.endsWith(".js"));
  return (await Promise.all(names.map((name) => readFile(new URL(name, assets), "utf8")))).join("\n");
}

test("the page has no hooks for tests", async () => {
  const hooks = ["lose-gpu", "agree-done"];
  const [served, tested] = await Promise.all([scripts("dist"), scripts("dist-test")]);
  for (const hook of hooks) {
    expect(served).not.toContain(hook);
    // Else this looked for the wrong words.
    expect(tested).toContain(hook);
  }
});
