// How fast devices were with a model, measured once and remembered in this browser only.

import type { Speeds } from "./protocol";

const KEY = "mor-speeds-v1";

type Stored = Record<string, Record<string, Speeds>>;

/** What was measured for a model, by adapter. */
export function readSpeeds(model: string): Record<string, Speeds> {
  const known: Record<string, Speeds> = {};
  for (const [adapter, speeds] of Object.entries(read()[model] ?? {})) {
    if (isSpeeds(speeds)) {
      known[adapter] = speeds;
    }
  }
  return known;
}

/** Keeps a measurement where storage is allowed. */
export function writeSpeeds(model: string, adapter: string, speeds: Speeds): void {
  try {
    const stored = read();
    localStorage.setItem(KEY, JSON.stringify({ ...stored, [model]: { ...stored[model], [adapter]: speeds } }));
  } catch {
    // Private windows may refuse; it is measured again at the next visit.
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

function isSpeeds(value: unknown): value is Speeds {
  const { cpu, gpu } = (value ?? {}) as Partial<Speeds>;
  return Number.isFinite(cpu) && Number.isFinite(gpu);
}
