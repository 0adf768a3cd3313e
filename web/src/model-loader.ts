// Fetches the files of a model folder, whole or not at all, and keeps them in the Cache API.
//
// A cached file is used when the server confirms it with a HEAD request (same ETag, or same size and date), and
// also when the server cannot be reached: a second visit needs no network.

import type { Problem } from "./protocol";

const CACHE_NAME = "mor-model-v1";

/** A load failure with words for the person who sees it. */
export class LoadError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.message);
    this.name = "LoadError";
    this.problem = problem;
  }
}

/** The folder has no such file. */
class MissingFile extends LoadError {}

/** Receives a file's bytes in order. */
export interface Sink {
  /** Called once before the first chunk; `size` is known unless the server compresses or streams. */
  begin(size: number | undefined): void | Promise<void>;
  write(chunk: Uint8Array): void;
}

export interface FetchedFile {
  size: number;
  cached: boolean;
  /** Differs where the file's content does, as far as the server tells; null if it does not. */
  version: string | null;
}

/** Called as bytes arrive: bytes so far of this file, and its size when known. */
export type Progress = (loaded: number, size: number | undefined) => void;

/** The files of one folder. */
export class ModelLoader {
  private constructor(
    private readonly folder: URL,
    private readonly cache: Cache | undefined,
  ) {}

  /** A loader for `folder`, which ends with a slash. Without a usable cache every file comes from the network. */
  static async open(folder: URL): Promise<ModelLoader> {
    let cache: Cache | undefined;
    try {
      // Absent outside secure contexts, and refused by some private windows.
      cache = await globalThis.caches?.open(CACHE_NAME);
    } catch {
      cache = undefined;
    }
    return new ModelLoader(folder, cache);
  }

  /** Forgets cached copies, so that the next read comes from the network. */
  async forget(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.cache?.delete(this.url(name))));
  }

  /** A small file as bytes. */
  async bytes(name: string, progress?: Progress): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    const { size } = await this.stream(
      name,
      { begin: () => void (chunks.length = 0), write: (chunk) => void chunks.push(chunk) },
      progress,
    );
    const bytes = new Uint8Array(size);
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  }

  /** A file that a folder may lack; null if it does. */
  async optionalBytes(name: string): Promise<Uint8Array | null> {
    try {
      return await this.bytes(name);
    } catch (error) {
      if (error instanceof MissingFile) {
        return null;
      }
      throw error;
    }
  }

  /** As text, a file that is not worth a failure; null if it is missing or cannot be had. */
  async optionalText(name: string): Promise<string | null> {
    try {
      return new TextDecoder().decode(await this.bytes(name));
    } catch {
      return null;
    }
  }

  /** Streams a file into `sink`, from the cache if possible, else from the network into the cache as well. */
  async stream(name: string, sink: Sink, progress?: Progress): Promise<FetchedFile> {
    const url = this.url(name);
    const cached = await this.cached(url);
    if (cached !== undefined && (await this.isCurrent(name, url, cached.headers))) {
      const size = sizeOf(cached.headers);
      const received = await pump(cached, sink, size, progress);
      if (received === size) {
        return { size: received, cached: true, version: versionOf(cached.headers) };
      }
      // A damaged copy: fall through to the network, where `begin` starts the sink over.
      await this.cache?.delete(url);
    }
    return { ...(await this.download(name, url, sink, progress)), cached: false };
  }

  private url(name: string): string {
    return new URL(name, this.folder).href;
  }

  private where(): string {
    return decodeURI(this.folder.pathname);
  }

  private async cached(url: string): Promise<Response | undefined> {
    try {
      return await this.cache?.match(url);
    } catch {
      return undefined;
    }
  }

  /** Whether a cached copy is still what the server has; an unreachable server cannot say otherwise. */
  private async isCurrent(name: string, url: string, cached: Headers): Promise<boolean> {
    let response: Response;
    try {
      response = await fetch(url, { method: "HEAD", cache: "no-store" });
    } catch {
      return true;
    }
    if (response.status === 404 || response.status === 410) {
      throw this.missing(name, response.status);
    }
    if (!response.ok) {
      return true;
    }
    const etag = response.headers.get("etag");
    if (etag !== null) {
      return etag === cached.get("etag");
    }
    const compressed = response.headers.has("content-encoding");
    const size = sizeOf(response.headers);
    if (compressed || size === undefined) {
      return false;
    }
    return size === sizeOf(cached) && response.headers.get("last-modified") === cached.get("last-modified");
  }

  private async download(name: string, url: string, sink: Sink, progress?: Progress): Promise<Omit<FetchedFile, "cached">> {
    let response: Response;
    try {
      // The Cache API holds the copy; a second one in the HTTP cache would only cost disk.
      response = await fetch(url, { cache: "no-store" });
    } catch {
      throw new LoadError({
        file: name,
        message: `${name} could not be fetched: the server does not answer.`,
        remedy: "Check that the server is still running, then try again.",
      });
    }
    if (response.status === 404 || response.status === 410) {
      throw this.missing(name, response.status);
    }
    if (!response.ok) {
      throw new LoadError({
        file: name,
        message: `${name} could not be fetched: the server answered ${response.status} ${response.statusText}.`.trim(),
        remedy: "Try again; if it stays, look at the server's log.",
      });
    }
    // Servers of single-page apps answer a missing file with their index page and status 200.
    if ((response.headers.get("content-type") ?? "").startsWith("text/html")) {
      throw this.missing(name, response.status);
    }

    const size = response.headers.has("content-encoding") ? undefined : sizeOf(response.headers);
    const copy = this.startCopy(url, response.headers, size);
    let received: number;
    try {
      received = await pump(response, sink, size, progress, copy);
    } catch (error) {
      copy?.abort(error);
      if (!(error instanceof BrokenBody)) {
        throw error;
      }
      throw new LoadError({
        file: name,
        message: `${name} is incomplete: the connection broke while it was being fetched.`,
        remedy: "Check the connection, then try again.",
      });
    }
    if (size !== undefined && received !== size) {
      copy?.abort(new Error("incomplete"));
      throw new LoadError({
        file: name,
        message: `${name} is incomplete: ${received} of ${size} bytes arrived.`,
        remedy: "Check the connection, then try again.",
      });
    }
    await copy?.finish();
    return { size: received, version: versionOf(response.headers) };
  }

  /** Writes a second stream of the same bytes to the cache. */
  private startCopy(url: string, headers: Headers, size: number | undefined): CacheCopy | undefined {
    // Without a size a copy could not be checked when it is read.
    return this.cache === undefined || size === undefined
      ? undefined
      : new CacheCopy(this.cache, url, headers, size);
  }

  private missing(name: string, status: number): MissingFile {
    return new MissingFile({
      file: name,
      message: `${name} is missing from ${this.where()} (the server answered ${status}).`,
      remedy: "Put the whole model folder there, or name another one with ?model=NAME in the address.",
    });
  }
}

/** The connection ended before the body did. Anything else that goes wrong meanwhile is the sink's. */
class BrokenBody extends Error {}

/** A cache entry being written. Failing to cache never fails the load. */
class CacheCopy {
  private readonly writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  private readonly stored: Promise<boolean>;
  private broken = false;

  constructor(cache: Cache, url: string, headers: Headers, size: number) {
    const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
    this.writer = writable.getWriter();
    // Nobody awaits these when the copy is given up.
    this.writer.closed.catch(() => undefined);
    const kept = new Headers({ "content-length": String(size) });
    for (const name of ["etag", "last-modified", "content-type"]) {
      const value = headers.get(name);
      if (value !== null) {
        kept.set(name, value);
      }
    }
    this.stored = cache.put(url, new Response(readable, { headers: kept })).then(
      () => true,
      () => {
        this.broken = true;
        return false;
      },
    );
  }

  async write(chunk: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.broken) {
      // A full disk rejects `stored` and may leave `write` waiting for ever.
      await Promise.race([this.writer.write(chunk).catch(() => void (this.broken = true)), this.stored]);
    }
  }

  async finish(): Promise<void> {
    if (!this.broken) {
      await this.writer.close().catch(() => undefined);
    }
    await this.stored;
  }

  abort(reason: unknown): void {
    this.broken = true;
    this.writer.abort(reason).catch(() => undefined);
  }
}

function sizeOf(headers: Headers): number | undefined {
  const text = headers.get("content-length");
  const size = Number(text);
  return text !== null && Number.isSafeInteger(size) && size >= 0 ? size : undefined;
}

function versionOf(headers: Headers): string | null {
  return headers.get("etag") ?? headers.get("last-modified");
}

/** Moves a body into `sink` (and `copy`), and returns how many bytes it had. */
async function pump(
  response: Response,
  sink: Sink,
  size: number | undefined,
  progress?: Progress,
  copy?: CacheCopy,
): Promise<number> {
  await sink.begin(size);
  progress?.(0, size);
  if (response.body === null) {
    return 0;
  }
  let received = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      throw new BrokenBody(String(error));
    });
    if (done) {
      return received;
    }
    received += value.length;
    sink.write(value);
    await copy?.write(value);
    progress?.(received, size);
  }
}
