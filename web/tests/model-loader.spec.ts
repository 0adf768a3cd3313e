// When a cached file counts as current, without a browser: the Cache API is a map here, and the server a function.

import { expect, test } from "@playwright/test";

import { LoadError, ModelLoader } from "../src/model-loader";

const FOLDER = new URL("http://localhost/models/m/");
const DATE = "Mon, 01 Jan 2024 00:00:00 GMT";

/** What a server says of the file it has, and how it answers; a status of 0 is a server that does not answer. */
interface Server {
  content: string;
  headers: Record<string, string>;
  /** Headers of answers to HEAD, where they differ. */
  head?: Record<string, string>;
  headStatus?: number;
  getStatus?: number;
}

const real = { fetch: globalThis.fetch, caches: globalThis.caches };
let server: Server;
let fetches: string[];

test.beforeEach(() => {
  const store = new Map<string, { body: ArrayBuffer; headers: [string, string][] }>();
  const cache = {
    match: async (url: string) => {
      const entry = store.get(url);
      return entry && new Response(entry.body, { headers: entry.headers });
    },
    put: async (url: string, response: Response) => {
      const body = await response.arrayBuffer();
      store.set(url, { body, headers: [...response.headers] });
    },
    delete: async (url: string) => store.delete(url),
  };
  fetches = [];
  globalThis.caches = { open: async () => cache } as unknown as CacheStorage;
  globalThis.fetch = async (_, { method = "GET" } = {}) => {
    fetches.push(method);
    const status = (method === "HEAD" ? server.headStatus : server.getStatus) ?? 200;
    if (status === 0) {
      throw new TypeError("no network");
    }
    const headers = { "content-length": String(server.content.length), ...server.headers };
    const head = { ...headers, ...server.head };
    return new Response(method === "HEAD" ? null : server.content, { status, headers: method === "HEAD" ? head : headers });
  };
});

test.afterAll(() => Object.assign(globalThis, real));

async function load(): Promise<{ text: string; cached: boolean; confirmed: boolean }> {
  const loader = await ModelLoader.open(FOLDER);
  const { bytes, cached, confirmed } = await loader.read("model.safetensors");
  expect(loader.confirmed).toBe(confirmed);
  return { text: new TextDecoder().decode(bytes), cached, confirmed };
}

/** Loads from one server, then from another. */
async function twice(first: Omit<Server, "content">, second: Partial<Server>) {
  server = { content: "old weights!", ...first };
  expect(await load()).toEqual({ text: "old weights!", cached: false, confirmed: true });
  fetches = [];
  server = { content: "new weights!", ...first, ...second };
  return load();
}

const NEW = { text: "new weights!", cached: false, confirmed: true };
const OLD = { text: "old weights!", cached: true, confirmed: true };

for (const [what, first, second] of [
  ["neither tag nor date", {}, {}],
  ["the date of a reproducible build", { "last-modified": DATE }, { "last-modified": DATE }],
  ["another date", { "last-modified": DATE }, { "last-modified": DATE.replace("2024", "2025") }],
  ["another tag", { etag: '"a"' }, { etag: '"b"' }],
  ["a tag no more", { etag: '"a"' }, {}],
  ["a tag only now", {}, { etag: '"a"' }],
  ["another weak tag", { etag: 'W/"a"' }, { etag: 'W/"b"' }],
  ["the same date and another tag", { etag: '"a"', "last-modified": DATE }, { etag: '"b"', "last-modified": DATE }],
] as const) {
  test(`a file of the same size with ${what} is fetched again`, async () => {
    expect(await twice({ headers: first }, { headers: second })).toEqual(NEW);
  });
}

for (const [first, second] of [['"a"', '"a"'], ['W/"a"', 'W/"a"'], ['"a"', 'W/"a"']] as const) {
  test(`the tag ${second} confirms a copy with ${first}`, async () => {
    expect(await twice({ headers: { etag: first } }, { headers: { etag: second } })).toEqual(OLD);
    expect(fetches).toEqual(["HEAD"]);
  });
}

for (const status of [403, 405, 501]) {
  test(`a server that answers HEAD with ${status} confirms nothing`, async () => {
    expect(await twice({ headers: { etag: '"a"' } }, { headStatus: status })).toEqual(NEW);
  });
}

test("without a network the copy is used, and said to be unconfirmed", async () => {
  expect(await twice({ headers: {} }, { headStatus: 0, getStatus: 0 })).toEqual({ ...OLD, confirmed: false });
});

for (const status of [0, 500, 503]) {
  test(`a copy is used unconfirmed where the file itself cannot be had (${status})`, async () => {
    expect(await twice({ headers: {} }, { headStatus: status || 405, getStatus: status })).toEqual({ ...OLD, confirmed: false });
  });
}

test("a file that is not there any more is missing, whatever was kept", async () => {
  await expect(twice({ headers: { etag: '"a"' } }, { headStatus: 404, getStatus: 404 })).rejects.toThrow(/is missing from/);
  await expect(twice({ headers: {} }, { headStatus: 405, getStatus: 404 })).rejects.toThrow(LoadError);
});
