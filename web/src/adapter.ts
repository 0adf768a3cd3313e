// Which GPU the browser offers, asked without opening it.

/**
 * An adapter's name and whether it is no GPU but the processor; or why there is none, in words for a
 * person, where `broken` is one that was there and failed.
 */
export type Offer = { name: string; software: boolean } | NoOffer;
export interface NoOffer {
  trouble: string;
  broken?: boolean;
}

/** After this long a browser is taken not to answer. */
const PATIENCE_MS = 10_000;

/** Asks the browser. Never fails, and never takes for ever. */
export function lookForAdapter(): Promise<Offer> {
  const impatient = new Promise<Offer>((resolve) => {
    setTimeout(() => resolve({ trouble: "The browser did not answer when it was asked for a GPU." }), PATIENCE_MS);
  });
  return Promise.race([look(), impatient]);
}

async function look(): Promise<Offer> {
  // Typed as always there; in truth only since 2023, and only in secure contexts.
  const gpu = navigator.gpu as GPU | undefined;
  if (gpu === undefined) {
    return {
      trouble: isSecureContext
        ? "This browser has no WebGPU."
        : "Browsers offer WebGPU only to pages from https or localhost, and this one came over plain http.",
    };
  }
  let adapter: GPUAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return { trouble: `The browser could not look for a GPU: ${error instanceof Error ? error.message : String(error)}` };
  }
  if (adapter === null) {
    return { trouble: "The browser knows WebGPU but offers no GPU: there is none, or its driver is on a list of bad ones." };
  }
  const info = adapter.info as GPUAdapterInfo | undefined;
  if (info === undefined) {
    return { trouble: "This browser's WebGPU is too old." };
  }
  const { description, vendor, architecture, device } = info;
  const name = description || [vendor, architecture, device].filter((part) => part !== "").join(" ");
  // What browsers compute with where there is no GPU, or none that they trust.
  const software = info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|basic render/i.test(name);
  return { name: name || "an unnamed GPU", software };
}
