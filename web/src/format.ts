// Numbers as people read them.

const UNITS = ["bytes", "kB", "MB", "GB"] as const;

/** Bytes in decimal units: `18.9 MB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** A parameter count in short (`9.9 M`) or in words (`9.9 million`). */
export function formatCount(count: number, style: "short" | "words"): string {
  const [billion, million] = style === "short" ? ["B", "M"] : ["billion", "million"];
  if (count >= 1e9) {
    return `${(count / 1e9).toFixed(1)} ${billion}`;
  }
  if (count >= 1e6) {
    return `${(count / 1e6).toFixed(1)} ${million}`;
  }
  return count.toLocaleString("en");
}

/** Milliseconds, or seconds from one up. */
export function formatDuration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** A depth: whole when it is whole. */
export function formatDepth(depth: number): string {
  return Number.isInteger(depth) ? String(depth) : depth.toFixed(2);
}

/** `1 token`, `2 tokens`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
