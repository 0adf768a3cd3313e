import { defineConfig } from "@playwright/test";

import { ARGS, CHROMIUM } from "./tests/browser.mjs";

const PORT = 4173;

export default defineConfig({
  testDir: "tests",
  // One browser at a time: some tests look at an answer while it is being written.
  workers: 1,
  // Generous: the browser may share its machine with a build or a training run.
  timeout: 120_000,
  expect: { timeout: 30_000 },
  forbidOnly: process.env["CI"] !== undefined,
  reporter: [["list"]],
  use: {
    baseURL: `http://127.0.0.1:${PORT}`,
    launchOptions: {
      executablePath: CHROMIUM,
      args: ARGS,
    },
    trace: "retain-on-failure",
  },
  webServer: {
    command: `node tests/server.mjs ${PORT}`,
    url: `http://127.0.0.1:${PORT}/`,
    reuseExistingServer: false,
  },
});
