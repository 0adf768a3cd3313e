// How devices did with a model: how fast they were, or why a GPU could not be used. Remembered for a month, in this browser
// only.

import type { Experience, Speeds } from "./protocol";

const KEY = "mor-devices-v1";

/** Drivers and browsers change: after this many milliseconds devices are tried again, as natively. */
const LIFETIME = 30 * 24 * 3600 * 1000;

/** What was learned, and when, in milliseconds. */
type Entry = Experience & { at: number };

type Stored = Record<string, Record<string, Entry>>;

/** What was learned of a model lately, by adapter. */
export function readExperience(model: string): Record<string, Experience> {
  const known: Record<string, Experience> = {};
  for (const [adapter, entry] of Object.entries(read()[model] ?? {})) {
    // A clock that was set back makes none last longer.
    if (isEntry(entry) && Math.abs(Date.now() - entry.at) < LIFETIME) {
      const { at: _, ...experience } = entry;
      known[adapter] = experience;
    }
  }
  return known;
}

/** Keeps what was learned, where storage is allowed. */
export function writeExperience(model: string, adapter: string, experience: Experience): void {
  change(model, (entries) => ({ ...entries, [adapter]: { ...experience, at: Date.now() } }));
}

/** Forgets why GPUs could not be used, so that they are tried again. */
export function forgetFailures(model: string): void {
  const worked = ([, entry]: [string, Entry]) => isEntry(entry) && !("failure" in entry);
  change(model, (entries) => Object.fromEntries(Object.entries(entries).filter(worked)));
}

function change(model: string, how: (entries: Record<string, Entry>) => Record<string, Entry>): void {
  try {
    const stored = read();
    localStorage.setItem(KEY, JSON.stringify({ ...stored, [model]: how(stored[model] ?? {}) }));
  } catch {
    // Private windows may refuse; it is found out again at the next visit.
  }
}

function read(): Stored {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return typeof stored === "object" && stored !== null ? (stored as Stored) : {};
  } catch {
    return {};
  }
}

function isEntry(value: unknown): value is Entry {
  const { speeds, failure, at } = (value ?? {}) as { speeds?: Partial<Speeds>; failure?: unknown; at?: unknown };
  const measured = Number.isFinite(speeds?.cpu) && Number.isFinite(speeds?.gpu);
  return (measured || typeof failure === "string") && Number.isFinite(at);
}
