// Which GPU the browser offers, asked without opening it.

/** An adapter's name, or why there is none, in words for a person. */
export type Offer = { name: string } | { trouble: string };

/** Asks the browser. Never fails. */
export async function lookForAdapter(): Promise<Offer> {
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
  const { description, vendor, architecture, device } = adapter.info;
  const name = description || [vendor, architecture, device].filter((part) => part !== "").join(" ");
  return { name: name || "an unnamed GPU" };
}
