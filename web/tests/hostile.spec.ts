import { expect, test } from "@playwright/test";

import { answered, answers, openReady, send } from "./page";
import { HOSTILE_REPLY } from "./replies.mjs";

test("a hostile reply stays text", async ({ page }) => {
  const requests: string[] = [];
  const dialogs: string[] = [];
  await openReady(page, "hostile");
  page.context().on("request", (request) => requests.push(request.url()));
  page.on("dialog", (dialog) => {
    dialogs.push(dialog.message());
    void dialog.dismiss();
  });
  await send(page);
  await answered(page);
  const answer = answers(page);
  await expect(answer.locator("strong")).toHaveText("bold");
  await expect(answer).toContainText('<img src=x onerror="window.pwned=1">');
  await expect(answer).toContainText("<script>window.pwned=2</script>");
  await expect(answer).toContainText("<svg onload=window.pwned=4>");
  await expect(answer).toContainText("<b>raw</b>");
  await expect(answer).toContainText("[click](javascript:window.pwned=3)");
  await expect(answer.locator("img, script, svg, b, a, iframe, [onerror], [onload], [style]")).toHaveCount(0);
  expect(await page.evaluate(() => (window as { pwned?: number }).pwned)).toBeUndefined();
  expect(requests).toEqual([]);
  expect(dialogs).toEqual([]);
  // Shaded tokens are another way to the page.
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Shade tokens by depth").check();
  await expect(answer).toHaveText(HOSTILE_REPLY);
  await expect(answer.locator(":not(span)")).toHaveCount(0);
});

test("the page's policy refuses inline script and other servers", async ({ page }) => {
  await openReady(page, "long");
  const ran = await page.evaluate(async () => {
    const script = document.createElement("script");
    script.textContent = "window.pwned = 1";
    document.head.append(script);
    const fetched = await fetch("http://127.0.0.1:9/").then(() => true, (error: Error) => error.name);
    return [(window as { pwned?: number }).pwned ?? null, fetched];
  });
  expect(ran).toEqual([null, "TypeError"]);
  await page.goto("/?model=http://127.0.0.1:9/models/x/");
  await expect(page.getByRole("alert")).toContainText("on another server (127.0.0.1:9)");
});
