import { defineConfig, type Plugin } from "vite";

/** Vite's development client injects styles, which the page's policy rightly forbids: drop the policy there only. */
const relaxPolicyInDevelopment: Plugin = {
  name: "mor-relax-policy",
  apply: "serve",
  transformIndexHtml: (html) => html.replace(/<meta\s+http-equiv="Content-Security-Policy"[^>]*>/, ""),
};

export default defineConfig({
  // Relative addresses: the page works in any folder of any server.
  base: "./",
  build: {
    target: "es2022",
    // Keeps `light-dark()` as written: all three engines have had it since 2024.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // `data:` addresses would need exceptions in the policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
  },
  worker: { format: "es" },
  plugins: [relaxPolicyInDevelopment],
});
