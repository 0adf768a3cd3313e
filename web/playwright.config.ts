import { defineConfig } from "@playwright/test";

import { ARGS, CHROMIUM } from "./tests/browser.mjs";

const PORT = 4173;

export default defineConfig({
  testDir: "tests",
  // One browser at a time: some tests look at an answer while it is being written.
  workers: 1,
  // Generous: no test is about speed, and a browser that plays a GPU on two slow cores takes its time.
  timeout: 300_000,
  expect: { timeout: 120_000 },
  forbidOnly: process.env["CI"] !== undefined,
  // The task that runs all tests reads the second for the slowest ones.
  reporter: [["list"], ["junit", { outputFile: "test-results/junit.xml" }]],
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
