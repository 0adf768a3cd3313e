// Folders' names in addresses, without a browser.

import { expect, test } from "@playwright/test";

import { folderAddress, folderName } from "../src/address";

const PAGE = "http://localhost:8000/chat/index.html?model=x";

for (const [asked, path, name] of [
  ["mine", "/chat/models/mine/", "mine"],
  ["50%", "/chat/models/50%25/", "50%"],
  ["50%25", "/chat/models/50%2525/", "50%25"],
  ["a b#c?d&e", "/chat/models/a%20b%23c%3Fd&e/", "a b#c?d&e"],
  ["ünï", "/chat/models/%C3%BCn%C3%AF/", "ünï"],
  ["a\\b\tc", "/chat/models/a%5Cb%09c/", "a\\b\tc"],
  ["data:x", "/chat/models/data:x/", "data:x"],
  ["long@7-1", "/chat/models/long@7-1/", "long@7-1"],
  ["runs/1 %/model", "/chat/runs/1%20%25/model/", "model"],
  ["runs/x%2F/", "/chat/runs/x%252F/", "x%2F"],
  ["data:x/y", "/chat/data:x/y/", "y"],
  ["../other", "/other/", "other"],
  ["/models/mine/", "/models/mine/", "mine"],
  ["http://localhost:8000/a%25b", "/a%25b/", "a%b"],
  ["http://localhost:8000/a%b", "/a%b/", "a%b"],
] as const) {
  test(`?model=${JSON.stringify(asked)} is ${path}`, () => {
    const folder = folderAddress(asked, PAGE);
    expect(folder.href).toBe(`http://localhost:8000${path}`);
    expect(folderName(folder)).toBe(name);
  });
}

test("another server stays another server", () => {
  for (const asked of ["http://elsewhere/m", "//elsewhere/m", "HTTPS://elsewhere/m/"]) {
    expect(folderAddress(asked, PAGE).host).toBe("elsewhere");
  }
});
