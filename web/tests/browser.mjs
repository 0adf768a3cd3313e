// How tests and benchmark start Chromium.

export const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

export const ARGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** With WebGPU on a machine without a GPU: SwiftShader computes in the GPU's place. */
export const GPU_ARGS = [...ARGS, "--enable-unsafe-webgpu", "--enable-unsafe-swiftshader"];
