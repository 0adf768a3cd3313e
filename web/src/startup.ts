// Where the time until the first token goes.

import type { StartupName, StartupPart } from "./protocol";

/** Times the parts of a start. A part that happens again, as when a GPU is opened again, replaces the one before. */
export class Startup {
  private readonly began = performance.now();
  private readonly taken = new Map<StartupName, StartupPart>();

  /** Times `work`. */
  async time<T>(name: StartupName, work: () => T | Promise<T>): Promise<T> {
    const began = performance.now();
    const result = await work();
    this.set(name, performance.now() - began);
    return result;
  }

  /** Notes a part whose time is known. */
  set(name: StartupName, ms: number, note = ""): void {
    this.taken.set(name, { name, ms, note });
  }

  /** Adds to a part that was timed. */
  extend(name: StartupName, ms: number): void {
    const part = this.taken.get(name);
    if (part !== undefined) {
      part.ms += ms;
    }
  }

  /** Says more about a part that was timed. */
  note(name: StartupName, note: string): void {
    const part = this.taken.get(name);
    if (part !== undefined) {
      part.note = note;
    }
  }

  has(name: StartupName): boolean {
    return this.taken.has(name);
  }

  /** Milliseconds since the start. */
  elapsed(): number {
    return performance.now() - this.began;
  }

  parts(): StartupPart[] {
    return [...this.taken.values()];
  }
}
