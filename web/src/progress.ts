// How much of several files has arrived.

/** What the page shows of it. */
export interface Loaded {
  loaded: number;
  /** Bytes in all; null until every file has told its size. */
  total: number | null;
}

/** Adds up files that arrive side by side. */
export class Progress {
  private readonly files = new Map<string, { loaded: number; size: number | undefined }>();

  /**
   * @param expected the names of all files: before each has begun there is no whole to have a part of
   * @param largest the one without whose size the others' say nothing
   */
  constructor(
    private readonly expected: readonly string[],
    private readonly largest: string,
  ) {}

  /** Notes what has arrived of a file, and what that makes in all. A size may be unknown where a server compresses. */
  note(name: string, loaded: number, size: number | undefined): Loaded {
    this.files.set(name, { loaded, size });
    let sum = 0;
    let total = 0;
    for (const file of this.files.values()) {
      sum += file.loaded;
      total += file.size ?? file.loaded;
    }
    const known = this.expected.every((name) => this.files.has(name)) && this.files.get(this.largest)?.size !== undefined;
    return { loaded: sum, total: known ? total : null };
  }
}
