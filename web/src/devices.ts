// Decides where the model runs: on the CPU, which always works, or on a GPU, which may be missing, slow, wrong or lost.
// Whatever happens to a GPU, the model goes on, and the person is told.

import { MorGpu, type MorModel, type WeightsBuffer } from "../pkg/mor_web.js";
import type { Offer } from "./adapter";
import type { Device, DeviceChoice, FromWorker, LoadOptions, Speeds } from "./protocol";
import type { Startup } from "./startup";

/** What `MorModel.check_probe` returns. */
interface ProbeOutcome {
  agrees: boolean;
  difference: number;
  allowed: number;
}

/** A GPU that is lost more often than this does not come back. */
const MOST_REBUILDS = 2;
/** Tokens of the comparison between devices: as many as fit the time, and at most so many. */
const COMPARED_TOKENS = 16;
const COMPARED_MS = 500;
const COMPARED_PROMPT = 8;

/** Whether an error is a device's fault, so that another may do better; `mor-web` names them so. */
export function isDeviceError(error: unknown): boolean {
  return error instanceof Error && error.name === "DeviceError";
}

/** The devices of one model. */
export class Devices {
  private choice: DeviceChoice = "auto";
  private device: Device = "cpu";
  private why = "";
  private trouble: string | null = null;
  private adapter: string | null = null;
  private variant: string | null = null;
  private gpu: MorGpu | undefined;
  /** A GPU that is being opened while the weights arrive. */
  private opening: Promise<MorGpu> | undefined;
  /** The same once it is open, until it has something to compile. */
  private early: MorGpu | undefined;
  /** Whether the model is on the GPU and may be trusted there. */
  private prepared = false;
  private losses = 0;
  private model: MorModel | undefined;
  private readonly probe: Promise<Uint8Array | null>;

  /**
   * @param offer the GPU there is
   * @param fetchProbe gets the model folder's `probe.json`, if it has one; asked at once if there is a GPU, since the
   *   page is to make no request once it has loaded
   */
  constructor(
    private readonly startup: Startup,
    private readonly offer: Promise<Offer>,
    private readonly options: LoadOptions,
    fetchProbe: () => Promise<Uint8Array | null>,
    private readonly post: (message: FromWorker) => void,
  ) {
    this.probe = offer.then((offer) => ("name" in offer ? fetchProbe() : null));
  }

  /** Opens the GPU if `choice` will need it, while the caller loads the model. Needs the module. */
  async openEarly(choice: DeviceChoice): Promise<void> {
    const offer = await this.offer;
    if ("name" in offer && (choice === "gpu" || (choice === "auto" && this.known(offer.name) !== "cpu"))) {
      this.opening ??= this.open(offer);
      this.opening.then(
        (gpu) => {
          this.early = gpu;
        },
        () => undefined,
      );
    }
  }

  /** Has a GPU that was opened early compile what the model needs, while the model's weights arrive. */
  compileAhead(config: Uint8Array, weights: WeightsBuffer): void {
    try {
      if (this.early?.compile_ahead(config, weights)) {
        this.early = undefined;
      }
    } catch (error) {
      // WebGPU threw through the engine, which cannot be used any more: the page starts another worker.
      this.early = undefined;
      reportError(error);
    }
  }

  /** Puts a model that has no device yet where `choice` wants it. */
  async start(model: MorModel, choice: DeviceChoice): Promise<void> {
    this.model = model;
    await this.choose(choice);
  }

  /** Goes on where `choice` wants it, or says why not. */
  async choose(choice: DeviceChoice): Promise<void> {
    this.choice = choice;
    if (choice === "cpu") {
      await this.use("cpu", "You chose the CPU.");
      // Nothing waits for a GPU that is not wanted; the page says later which there is.
      void this.offer.then((offer) => {
        this.note(offer);
        this.tell();
      });
      return;
    }
    const offer = await this.offer;
    this.note(offer);
    if (choice === "gpu") {
      await this.chooseGpu(offer);
    } else {
      await this.chooseFaster(offer);
    }
    this.tell();
  }

  /** Goes on after the GPU has failed: on a new one, or on the CPU. */
  async recover(error: unknown): Promise<void> {
    this.losses += 1;
    const reason = words(error);
    this.release();
    if (this.losses <= MOST_REBUILDS && (await this.prepare())) {
      this.notice(`The GPU was lost (${reason}); continuing on it again.`);
      await this.useGpu("It was lost, and could be opened again.");
    } else {
      this.trouble = `The GPU was lost: ${reason}.`;
      this.notice(`The GPU was lost (${reason}); continuing on the CPU.`);
      await this.use("cpu", "The GPU was lost.");
    }
    this.tell();
  }

  /** Whether the model runs on the GPU now. */
  get onGpu(): boolean {
    return this.device === "gpu";
  }

  /** Makes the GPU ready whatever was chosen, for measurements. */
  async needGpu(): Promise<void> {
    if (!(await this.prepare())) {
      throw new Error(this.trouble ?? "There is no GPU.");
    }
  }

  /** Waits for the GPU, but not for ever: without it the engine does not come back, and only a new worker goes on. */
  async patiently<T>(work: Promise<T>): Promise<T> {
    const reason = `It did not answer within ${this.options.patience} seconds.`;
    const timer = setTimeout(() => this.post({ type: "stuck", reason }), this.options.patience * 1000);
    try {
      return await work;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Loses the GPU as a crash of its driver would: for tests. */
  lose(): void {
    this.gpu?.lose();
  }

  private async chooseGpu(offer: Offer): Promise<void> {
    if ("trouble" in offer) {
      this.notice(`There is no GPU to use, so the CPU writes. ${offer.trouble}`);
      await this.use("cpu", "There is no GPU to use.");
    } else if (await this.prepare()) {
      await this.useGpu("You chose the GPU.");
    } else {
      await this.use("cpu", "The GPU cannot be used.");
    }
  }

  private async chooseFaster(offer: Offer): Promise<void> {
    if ("trouble" in offer) {
      if (offer.broken === true) {
        this.notice(`The GPU could not be used, so the CPU writes. ${offer.trouble}`);
      }
      await this.use("cpu", "There is no GPU to use.");
      return;
    }
    let speeds = this.options.speeds[offer.name];
    const known = speeds !== undefined;
    if (this.known(offer.name) === "cpu") {
      this.drop();
    } else if (!(await this.prepare())) {
      await this.use("cpu", "The GPU cannot be used.");
      return;
    }
    try {
      if (speeds === undefined) {
        // First, so that packing the weights is no part of the comparison.
        await this.use("cpu", "It is being measured.");
        speeds = await this.startup.time("comparison", () => this.patiently(this.compare()));
      }
    } catch (error) {
      this.refuse("The GPU failed while it was measured", error);
      await this.use("cpu", "The GPU cannot be used.");
      return;
    }
    if (!known) {
      this.options.speeds[offer.name] = speeds;
      this.post({ type: "speeds", adapter: offer.name, speeds });
    }
    const [faster, slower] = speeds.gpu > speeds.cpu ? (["gpu", "cpu"] as const) : (["cpu", "gpu"] as const);
    const pace = (device: Device) => `${speeds[device].toFixed(speeds[device] < 10 ? 1 : 0)} tokens/s`;
    const why =
      `The ${faster.toUpperCase()} is faster for this model: ${pace(faster)} against ${pace(slower)} on the ` +
      `${slower.toUpperCase()}, measured ${known ? "at an earlier visit" : "just now"}.`;
    if (faster === "gpu") {
      await this.useGpu(why);
    } else {
      await this.use("cpu", why);
      this.drop();
    }
  }

  /** The faster device, where it is known. */
  private known(adapter: string): Device | undefined {
    const speeds = this.options.speeds[adapter];
    return speeds && (speeds.gpu > speeds.cpu ? "gpu" : "cpu");
  }

  /** Measures both devices. */
  private async compare(): Promise<Speeds> {
    const model = this.loaded();
    const speed = async (device: Device): Promise<number> => {
      await model.bench_prefill(device, COMPARED_PROMPT, undefined);
      const began = performance.now();
      let tokens = 0;
      let passed = 0;
      while (tokens < COMPARED_TOKENS && passed < COMPARED_MS) {
        await model.bench_decode(1);
        tokens += 1;
        passed = performance.now() - began;
      }
      model.bench_end();
      // A clock may be too coarse to see a fast token.
      return (tokens * 1000) / Math.max(passed, 0.1);
    };
    return { cpu: await speed("cpu"), gpu: await speed("gpu") };
  }

  /** Opens the GPU, puts the model on it, and checks that it computes what the CPU does; false, with a notice, if not. */
  private async prepare(): Promise<boolean> {
    if (this.prepared) {
      return true;
    }
    const model = this.loaded();
    try {
      const offer = await this.offer;
      const gpu = await this.patiently(this.opening ?? this.open(offer));
      this.gpu = gpu;
      this.opening = undefined;
      this.early = undefined;
      this.variant = gpu.variant();
      const began = performance.now();
      await this.patiently(gpu.settle());
      const waited = performance.now() - began;
      await this.startup.time("GPU weights", () => this.patiently(model.put_on_gpu(gpu)));
      await this.startup.time("pipelines", () => this.patiently(model.compile()));
      // What was compiled ahead counts as far as it was waited for.
      this.startup.extend("pipelines", waited);
      if (!(await this.passesProbe(model))) {
        return false;
      }
    } catch (error) {
      this.refuse("The GPU could not be used", error);
      return false;
    }
    this.prepared = true;
    this.trouble = null;
    return true;
  }

  private async passesProbe(model: MorModel): Promise<boolean> {
    const probe = await this.probe;
    if (probe === null) {
      this.startup.set("probe", 0, "the model has none");
      return true;
    }
    const outcome = await this.startup.time("probe", () => this.patiently(model.check_probe("gpu", probe)));
    const { agrees, difference, allowed } = outcome as ProbeOutcome;
    const figures = `a logit is ${difference.toPrecision(2)} off, where ${allowed.toPrecision(2)} is allowed`;
    this.startup.note("probe", figures);
    if (!agrees) {
      this.trouble = `It gave other results than expected: ${figures}.`;
      this.notice(`The GPU gave other results than expected, so the CPU writes (${figures}).`);
      this.drop();
    }
    return agrees;
  }

  private open(offer: Offer): Promise<MorGpu> {
    const suitable = "software" in offer && offer.software ? "portable" : undefined;
    return this.startup.time("device", () => MorGpu.open(this.options.kernels ?? suitable));
  }

  /** Goes on with the prepared GPU, which may have been lost since it was prepared. */
  private async useGpu(why: string): Promise<void> {
    try {
      await this.use("gpu", why);
    } catch (error) {
      if (!isDeviceError(error)) {
        throw error;
      }
      await this.recover(error);
    }
  }

  private async use(device: Device, why: string): Promise<void> {
    const model = this.loaded();
    if (device === "cpu" && !this.startup.has("CPU weights")) {
      await this.startup.time("CPU weights", () => model.set_device(device));
    } else {
      await model.set_device(device);
    }
    this.device = device;
    this.why = why;
  }

  /** Takes down what the browser offers. */
  private note(offer: Offer): void {
    if ("trouble" in offer) {
      this.trouble = offer.trouble;
    } else {
      this.adapter = offer.name;
    }
  }

  private refuse(what: string, error: unknown): void {
    const reason = words(error);
    this.trouble = `${what}: ${reason}.`;
    this.notice(`${what}, so the CPU writes (${reason}).`);
    this.drop();
  }

  /** Gives a GPU back that is not going to be used. */
  private drop(): void {
    void this.opening?.then(
      (gpu) => gpu.free(),
      () => undefined,
    );
    this.opening = undefined;
    this.early = undefined;
    this.release();
  }

  private release(): void {
    this.prepared = false;
    this.model?.leave_gpu();
    this.gpu?.free();
    this.gpu = undefined;
  }

  private loaded(): MorModel {
    if (this.model === undefined) {
      throw new Error("No model is loaded.");
    }
    return this.model;
  }

  private notice(text: string): void {
    this.post({ type: "notice", text });
  }

  /** Tells the page where the model runs now. */
  private tell(): void {
    const { choice, device, why, adapter, variant, trouble } = this;
    this.post({ type: "device", state: { choice, device, why, adapter, variant, trouble } });
  }
}

/** What an error says, as a part of a sentence that says already what happened. */
function words(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/^the GPU was lost: /, "").replace(/\.$/, "");
}
