// What the person chose, kept in this browser only.

import type { DeviceChoice, GenerationOptions } from "./protocol";

/** Choices of the settings panel. `null` is "as the model says". */
export interface Settings {
  temperature: number;
  topK: number;
  topP: number;
  maxNewTokens: number;
  /** null draws a new seed for each answer. */
  seed: number | null;
  depth: number | null;
  showDepth: boolean;
  device: DeviceChoice;
}

const DEVICES: readonly DeviceChoice[] = ["auto", "cpu", "gpu"];

const KEY = "mor-settings-v1";

/** Greedy by default: a model this small is at its best when it takes the likeliest token. */
export const DEFAULTS: Readonly<Settings> = {
  temperature: 0,
  topK: 40,
  topP: 0.95,
  maxNewTokens: 160,
  seed: null,
  depth: null,
  showDepth: false,
  device: "auto",
};

/** The model's own defaults over ours. */
export function withModelDefaults(model: Partial<GenerationOptions>, context: number): Settings {
  return {
    ...DEFAULTS,
    temperature: model.temperature ?? DEFAULTS.temperature,
    topK: model.top_k ?? DEFAULTS.topK,
    topP: model.top_p ?? DEFAULTS.topP,
    maxNewTokens: Math.min(model.max_new_tokens ?? DEFAULTS.maxNewTokens, context),
  };
}

/** Stored choices over `defaults`; anything unreadable or of a wrong type is ignored. */
export function readSettings(defaults: Settings): Settings {
  const settings: Settings = { ...defaults };
  let stored: Record<string, unknown>;
  try {
    stored = JSON.parse(localStorage.getItem(KEY) ?? "{}") as Record<string, unknown>;
  } catch {
    return settings;
  }
  for (const name of ["temperature", "topK", "topP", "maxNewTokens"] as const) {
    const value = stored[name];
    if (typeof value === "number" && Number.isFinite(value)) {
      settings[name] = value;
    }
  }
  for (const name of ["seed", "depth"] as const) {
    const value = stored[name];
    if (value === null || (typeof value === "number" && Number.isSafeInteger(value))) {
      settings[name] = value;
    }
  }
  if (typeof stored["showDepth"] === "boolean") {
    settings.showDepth = stored["showDepth"];
  }
  const device = DEVICES.find((name) => name === stored["device"]);
  return { ...settings, device: device ?? settings.device };
}

/** Keeps `settings` where storage is allowed. */
export function writeSettings(settings: Settings): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // Private windows may refuse; the choices then last until the page closes.
  }
}

/** Forgets stored choices. */
export function clearSettings(): void {
  try {
    localStorage.removeItem(KEY);
  } catch {
    // As above.
  }
}

/** The options of one answer. */
export function toOptions(settings: Settings, model: Partial<GenerationOptions>): GenerationOptions {
  return {
    temperature: settings.temperature,
    top_k: settings.topK,
    top_p: settings.topP,
    max_new_tokens: settings.maxNewTokens,
    seed: settings.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
    depth: settings.depth,
    repetition_penalty: model.repetition_penalty ?? 1,
  };
}
