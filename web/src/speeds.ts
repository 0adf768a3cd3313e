// How fast devices were with a model, measured once a month and remembered in this browser only.

import type { Speeds } from "./protocol";

const KEY = "mor-speeds-v1";

/** Drivers and browsers change: after this many milliseconds devices are compared again, as natively. */
const LIFETIME = 30 * 24 * 3600 * 1000;

/** Speeds, and when they were measured, in milliseconds. */
type Measurement = Speeds & { at: number };

type Stored = Record<string, Record<string, Measurement>>;

/** What was measured for a model lately, by adapter. */
export function readSpeeds(model: string): Record<string, Speeds> {
  const known: Record<string, Speeds> = {};
  for (const [adapter, measured] of Object.entries(read()[model] ?? {})) {
    // A clock that was set back makes none last longer.
    if (isMeasurement(measured) && Math.abs(Date.now() - measured.at) < LIFETIME) {
      known[adapter] = { cpu: measured.cpu, gpu: measured.gpu };
    }
  }
  return known;
}

/** Keeps a measurement where storage is allowed. */
export function writeSpeeds(model: string, adapter: string, speeds: Speeds): void {
  try {
    const stored = read();
    const measured: Measurement = { ...speeds, at: Date.now() };
    localStorage.setItem(KEY, JSON.stringify({ ...stored, [model]: { ...stored[model], [adapter]: measured } }));
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

function isMeasurement(value: unknown): value is Measurement {
  const { cpu, gpu, at } = (value ?? {}) as Partial<Measurement>;
  return Number.isFinite(cpu) && Number.isFinite(gpu) && Number.isFinite(at);
}
