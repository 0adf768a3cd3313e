import { expect, test } from "@playwright/test";

import { answered, openReady, send } from "./page";

test.describe("on a phone", () => {
  test.use({ viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true });

  test("nothing is wider than the screen and every control can be reached", async ({ page }) => {
    await openReady(page, "markdown");
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(await overflow()).toBeLessThanOrEqual(0);
    await send(page);
    await answered(page);
    expect(await overflow()).toBeLessThanOrEqual(0);
    await expect(page.getByRole("banner")).toContainText("CPU");
    for (const name of ["New chat", "Settings", "About", "Send"]) {
      await expect(page.getByRole("button", { name, exact: true })).toBeInViewport({ ratio: 1 });
    }
    await page.getByRole("button", { name: "Settings" }).tap();
    await expect(page.getByRole("button", { name: "Close" })).toBeInViewport({ ratio: 1 });
    expect(await overflow()).toBeLessThanOrEqual(0);
  });
});

for (const scheme of ["light", "dark"] as const) {
  test.describe(`with a preference for ${scheme}`, () => {
    test.use({ colorScheme: scheme, contextOptions: { reducedMotion: "reduce" } });

    test("ink stands out from paper", async ({ page }) => {
      await openReady(page, "long");
      const [paper, contrasts] = await page.evaluate(() => {
        const luminance = (colour: string) => {
          const [r = 0, g = 0, b = 0] = (colour.match(/[\d.]+/g) ?? []).map((part) => {
            const value = Number(part) / 255;
            return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
          });
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const paper = luminance(getComputedStyle(document.documentElement).backgroundColor);
        const contrast = (selector: string) => {
          const element = document.querySelector(selector);
          const ink = luminance(element === null ? "" : getComputedStyle(element).color);
          return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        };
        return [paper, [".lede", ".bar h1", "#status", ".hint", ".model-name"].map(contrast)] as const;
      });
      expect(paper > 0.5).toBe(scheme === "light");
      for (const contrast of contrasts) {
        expect(contrast).toBeGreaterThan(4.5);
      }
      await send(page);
      await answered(page);
    });
  });
}
