// Fetches the files of a model folder, whole or not at all, and keeps them in the Cache API.
//
// A cached file is used when the server confirms it by its ETag. Nothing else does: a retrained model has the size of the one
// before to the byte, and reproducible builds give all files one date. Where the server cannot be reached, or is out of
// order, the copy is used unconfirmed: a second visit needs no network.

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

/** The server does not answer, or says that it is out of order: nothing is known of the file. */
class NoServer extends LoadError {}

/** What a server says of a cached copy; `unknown` where it says nothing that settles it. */
type Verdict = "current" | "unreachable" | "unknown";

/** Receives a file's bytes in order. */
export interface Sink {
  /** Called once before the first chunk; `size` is known unless the server compresses or streams. */
  begin(size: number | undefined): void | Promise<void>;
  write(chunk: Uint8Array): void;
}

export interface FetchedFile {
  size: number;
  cached: boolean;
  /** Whether the server has confirmed that this is what it has now. */
  confirmed: boolean;
  /** Differs where the file's content does, as far as the server tells; null if it does not. */
  version: string | null;
}

/** Called as bytes arrive: bytes so far of this file, and its size when known. */
export type Progress = (loaded: number, size: number | undefined) => void;

/** The files of one folder. */
export class ModelLoader {
  private unconfirmed = false;

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

  /** Whether the server has confirmed that every file so far is what it has now. */
  get confirmed(): boolean {
    return !this.unconfirmed;
  }

  /** Forgets cached copies, so that the next read comes from the network. */
  async forget(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.cache?.delete(this.url(name))));
  }

  /** A small file as bytes. */
  async bytes(name: string, progress?: Progress): Promise<Uint8Array> {
    return (await this.read(name, progress)).bytes;
  }

  /** A small file, and where it came from. */
  async read(name: string, progress?: Progress): Promise<FetchedFile & { bytes: Uint8Array }> {
    const chunks: Uint8Array[] = [];
    const file = await this.stream(
      name,
      { begin: () => void (chunks.length = 0), write: (chunk) => void chunks.push(chunk) },
      progress,
    );
    const bytes = new Uint8Array(file.size);
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return { ...file, bytes };
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
    const file = await this.fetched(name, sink, progress);
    this.unconfirmed ||= !file.confirmed;
    return file;
  }

  private async fetched(name: string, sink: Sink, progress?: Progress): Promise<FetchedFile> {
    const url = this.url(name);
    const cached = await this.cached(url);
    if (cached === undefined) {
      return this.download(name, url, sink, progress);
    }
    const verdict = await this.ask(name, url, cached.headers);
    if (verdict !== "unknown") {
      const copy = await this.replay(url, cached, sink, progress);
      // A damaged copy is fetched again; `begin` starts the sink over.
      return copy === undefined
        ? this.download(name, url, sink, progress)
        : { ...copy, confirmed: verdict === "current" };
    }
    try {
      return await this.download(name, url, sink, progress);
    } catch (error) {
      const copy = error instanceof NoServer ? await this.replay(url, cached, sink, progress) : undefined;
      if (copy === undefined) {
        throw error;
      }
      return { ...copy, confirmed: false };
    }
  }

  /** Streams a cached copy; undefined, and the copy is gone, if it is damaged. */
  private async replay(
    url: string,
    cached: Response,
    sink: Sink,
    progress?: Progress,
  ): Promise<Omit<FetchedFile, "confirmed"> | undefined> {
    const size = sizeOf(cached.headers);
    const received = await pump(cached, sink, size, progress);
    if (received === size) {
      return { size: received, cached: true, version: versionOf(cached.headers) };
    }
    await this.cache?.delete(url);
    return undefined;
  }

  private url(name: string): string {
    return new URL(name, this.folder).href;
  }

  private where(): string {
    try {
      return decodeURI(this.folder.pathname);
    } catch {
      return this.folder.pathname;
    }
  }

  private async cached(url: string): Promise<Response | undefined> {
    try {
      return await this.cache?.match(url);
    } catch {
      return undefined;
    }
  }

  /** Whether a cached copy is still what the server has. */
  private async ask(name: string, url: string, cached: Headers): Promise<Verdict> {
    let response: Response;
    try {
      response = await fetch(url, { method: "HEAD", cache: "no-store" });
    } catch {
      return "unreachable";
    }
    if (response.status === 404 || response.status === 410) {
      throw this.missing(name, response.status);
    }
    const tag = response.ok ? tagOf(response.headers) : null;
    return tag !== null && tag === tagOf(cached) ? "current" : "unknown";
  }

  private async download(name: string, url: string, sink: Sink, progress?: Progress): Promise<FetchedFile> {
    let response: Response;
    try {
      // The Cache API holds the copy; a second one in the HTTP cache would only cost disk.
      response = await fetch(url, { cache: "no-store" });
    } catch {
      throw new NoServer({
        file: name,
        message: `${name} could not be fetched: the server does not answer.`,
        remedy: "Check that the server is still running, then try again.",
      });
    }
    if (response.status === 404 || response.status === 410) {
      throw this.missing(name, response.status);
    }
    if (!response.ok) {
      const Failure = response.status >= 500 ? NoServer : LoadError;
      throw new Failure({
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
    return { size: received, cached: false, confirmed: true, version: versionOf(response.headers) };
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

/** A file's entity tag. Servers that compress on the way make a strong one weak: both tell contents apart. */
function tagOf(headers: Headers): string | null {
  return headers.get("etag")?.replace(/^W\//, "") ?? null;
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
  // First, so that all sizes are known early: a sink may have to wait.
  progress?.(0, size);
  await sink.begin(size);
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
