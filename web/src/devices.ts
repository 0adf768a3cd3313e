// Decides where the model runs: on the CPU, which always works, or on a GPU, which may be missing, slow, wrong or lost.
// Whatever happens to a GPU, the model goes on, and the person is told.

import { MorGpu, type MorModel, type WeightsBuffer } from "../pkg/mor_web.js";
import type { NoOffer, Offer } from "./adapter";
import { compareSpeeds } from "./measure";
import type { Device, DeviceChoice, Experience, FromWorker, LoadOptions, Speeds } from "./protocol";
import type { Startup } from "./startup";

/** What `MorModel.check_probe` returns. */
interface ProbeOutcome {
  agrees: boolean;
  difference: number;
  allowed: number;
}

/** A GPU that is lost more often than this does not come back. */
const MOST_REBUILDS = 2;

/** Whether an error is a device's fault, so that another may do better; `mor-web` names them so. */
export function isDeviceError(error: unknown): boolean {
  return error instanceof Error && (error.name === "DeviceError" || isLoss(error));
}

/** Whether the GPU went away, so that it may come back. */
function isLoss(error: unknown): boolean {
  return error instanceof Error && error.name === "DeviceLost";
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
  /** What the model runs on: a GPU that was opened anew is another one. */
  private place: "cpu" | MorGpu | undefined;
  private losses = 0;
  private model: MorModel | undefined;
  /** Which weights the model has; unknown until they have arrived. */
  private version: string | null | undefined;
  /** Adapters that were measured at this visit. */
  private readonly measured = new Set<string>();
  /** Whether the browser has said that it offers no GPU. */
  private without = false;

  /**
   * @param offer the GPU there is
   * @param probe the model folder's `probe.json`, if it has one
   */
  constructor(
    private readonly startup: Startup,
    private readonly offer: Promise<Offer>,
    private readonly options: LoadOptions,
    private readonly probe: Promise<Uint8Array | null>,
    private readonly post: (message: FromWorker) => void,
  ) {
    void offer.then((offer) => {
      if ("trouble" in offer) {
        this.trouble = offer.trouble;
        this.without = true;
      } else {
        this.adapter = offer.name;
      }
    });
  }

  /** Opens the GPU if `choice` will need it, while the caller loads the model. Needs the module. */
  async openEarly(choice: DeviceChoice): Promise<void> {
    const offer = await this.offer;
    if ("name" in offer && (choice === "gpu" || (choice === "auto" && this.preferred(offer.name) !== "cpu"))) {
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
    if (this.early === undefined) {
      return;
    }
    this.post({ type: "gpu-call", adapter: this.adapter ?? "" });
    try {
      if (this.early.compile_ahead(config, weights)) {
        this.early = undefined;
      }
    } catch (error) {
      // WebGPU threw through the engine, which cannot be used any more: the page starts another worker.
      this.early = undefined;
      reportError(error);
      return;
    }
    this.post({ type: "gpu-return" });
  }

  /** Puts a model that has no device yet where `choice` wants it; `version` tells its weights from others. */
  async start(model: MorModel, version: string | null, choice: DeviceChoice): Promise<void> {
    this.model = model;
    this.version = version;
    await this.choose(choice);
  }

  /** Goes on where `choice` wants it, or says why not. */
  async choose(choice: DeviceChoice): Promise<void> {
    this.choice = choice;
    this.losses = 0;
    if (choice === "cpu") {
      await this.use("cpu", "You chose the CPU.");
      this.drop();
      this.tell();
      // Nothing waits for a GPU that is not wanted; the page says later which there is.
      void this.offer.then(() => this.tell());
      return;
    }
    const offer = await this.offer;
    if ("trouble" in offer) {
      await this.goWithout(offer);
    } else if (choice === "gpu") {
      await this.chooseGpu();
    } else {
      await this.chooseFaster(offer);
    }
    this.tell();
  }

  /** Goes on after the GPU has failed: on a new one if it was lost, else on the CPU. */
  async recover(error: unknown): Promise<void> {
    const lost = isLoss(error);
    const reason = words(error);
    this.release();
    if (lost) {
      this.losses += 1;
    }
    if (lost && this.losses <= MOST_REBUILDS && (await this.prepare())) {
      this.notice(`The GPU was lost (${reason}); continuing on it again.`);
      await this.useGpu("It was lost, and could be opened again.");
    } else {
      const what = lost ? "The GPU was lost" : "The GPU failed";
      this.trouble = `${what}: ${reason}.`;
      this.notice(`${what} (${reason}); continuing on the CPU.`);
      await this.use("cpu", `${what}.`);
    }
    this.tell();
  }

  /** Whether the model runs on the GPU now. */
  get onGpu(): boolean {
    return this.device === "gpu";
  }

  /** Makes the GPU ready whatever was chosen, for measurements. */
  async needGpu(): Promise<void> {
    if (this.without || !(await this.prepare())) {
      throw new Error(this.trouble ?? "There is no GPU.");
    }
  }

  /** Does what waits for the GPU, so that the page knows: it does not wait for ever. */
  async patiently<T>(work: () => Promise<T>): Promise<T> {
    this.post({ type: "gpu-call", adapter: this.adapter ?? "" });
    try {
      return await work();
    } finally {
      this.post({ type: "gpu-return" });
    }
  }

  /** Tells the page where the model runs now. */
  tell(): void {
    const { choice, device, why, adapter, variant, trouble } = this;
    this.post({ type: "device", state: { choice, device, why, adapter, variant, trouble } });
  }

  /** Uses the CPU where the browser offers no GPU, and says so unless that is a matter of course. */
  private async goWithout({ trouble, broken = false }: NoOffer): Promise<void> {
    if (broken) {
      const remedy = `${this.choice === "gpu" ? "Reload the page" : "Choose the GPU"} to try it again.`;
      this.notice(`The GPU could not be used, so the CPU writes. ${trouble} ${remedy}`);
      await this.use("cpu", "The GPU cannot be used.");
      return;
    }
    if (this.choice === "gpu") {
      this.notice(`There is no GPU to use, so the CPU writes. ${trouble}`);
    }
    await this.use("cpu", "There is no GPU to use.");
  }

  private async chooseGpu(): Promise<void> {
    if (await this.prepare()) {
      await this.useGpu("You chose the GPU.");
    } else {
      await this.use("cpu", "The GPU cannot be used.");
    }
  }

  private async chooseFaster({ name }: Extract<Offer, { name: string }>): Promise<void> {
    const known = this.known(name);
    if (known !== undefined && "failure" in known) {
      this.trouble = known.failure;
      await this.use("cpu", "The GPU could not be used within the last month; choose it to try it again.");
      this.drop();
      return;
    }
    if (this.preferred(name) !== "cpu" && !(await this.prepare())) {
      await this.use("cpu", "The GPU cannot be used.");
      return;
    }
    let speeds = known?.speeds;
    let when = this.measured.has(name) ? "at this visit" : "at an earlier visit";
    if (speeds === undefined) {
      try {
        // First, so that packing the weights is no part of the comparison.
        await this.use("cpu", "It is being measured.");
        const model = this.loaded();
        speeds = await this.startup.time("comparison", () => this.patiently(() => compareSpeeds(model)));
      } catch (error) {
        this.refuse("The GPU failed while it was measured", error);
        await this.use("cpu", "The GPU cannot be used.");
        return;
      }
      this.learn({ speeds });
      this.measured.add(name);
      when = "just now";
    }
    const faster = fasterOf(speeds);
    const slower = faster === "gpu" ? "cpu" : "gpu";
    const pace = (device: Device) => `${speeds[device].toFixed(speeds[device] < 10 ? 1 : 0)} tokens/s`;
    const why =
      `The ${faster.toUpperCase()} is faster for this model: ${pace(faster)} against ${pace(slower)} on the ` +
      `${slower.toUpperCase()}, measured ${when}.`;
    if (faster === "gpu") {
      await this.useGpu(why);
    } else {
      await this.use("cpu", why);
      this.drop();
    }
  }

  /** What is known of an adapter with these weights, or with any while they have not arrived. */
  private known(adapter: string): Experience | undefined {
    const known = this.options.known[adapter];
    const fits = known?.version === null || this.version === undefined || known?.version === this.version;
    return fits ? known : undefined;
  }

  /** The device that is to be preferred, where that is known. */
  private preferred(adapter: string): Device | undefined {
    const known = this.known(adapter);
    if (known === undefined) {
      return undefined;
    }
    return "failure" in known ? "cpu" : fasterOf(known.speeds);
  }

  /** Remembers something about the GPU. What other kernels than its own did says nothing about later visits. */
  private learn(what: { speeds: Speeds } | { failure: string }): void {
    if (this.adapter === null) {
      return;
    }
    const experience = { ...what, version: this.version ?? null };
    this.options.known[this.adapter] = experience;
    if (this.options.kernels === null) {
      this.post({ type: "learned", adapter: this.adapter, experience });
    }
  }

  /** Opens the GPU, puts the model on it, and checks that it computes what the CPU does; false, with a notice, if not. */
  private async prepare(): Promise<boolean> {
    if (this.prepared) {
      return true;
    }
    const model = this.loaded();
    try {
      const offer = await this.offer;
      const gpu = await (this.opening ?? this.open(offer));
      this.gpu = gpu;
      this.opening = undefined;
      this.early = undefined;
      this.variant = gpu.variant();
      const began = performance.now();
      await this.patiently(() => gpu.settle());
      const waited = performance.now() - began;
      await this.startup.time("GPU weights", () => this.patiently(() => model.put_on_gpu(gpu)));
      await this.startup.time("pipelines", () => this.patiently(() => model.compile()));
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
    const check = () => this.patiently(() => model.check_probe("gpu", probe));
    const { agrees, difference, allowed } = (await this.startup.time("probe", check)) as ProbeOutcome;
    const figures = `a logit is ${difference.toPrecision(2)} off, where ${allowed.toPrecision(2)} is allowed`;
    this.startup.note("probe", figures);
    if (!agrees) {
      this.trouble = `It gave other results than expected: ${figures}.`;
      this.notice(`The GPU gave other results than expected, so the CPU writes (${figures}).`);
      this.learn({ failure: this.trouble });
      this.drop();
    }
    return agrees;
  }

  private open(offer: Offer): Promise<MorGpu> {
    const suitable = "software" in offer && offer.software ? "portable" : undefined;
    const open = () => MorGpu.open(this.options.kernels ?? suitable);
    return this.startup.time("device", () => this.patiently(open));
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
    const place = device === "cpu" ? device : this.gpu;
    // To where it is already, it would only have to read the conversation again.
    if (place !== this.place) {
      if (device === "gpu") {
        await this.patiently(() => model.set_device(device));
      } else if (this.startup.has("CPU weights")) {
        await model.set_device(device);
      } else {
        await this.startup.time("CPU weights", () => model.set_device(device));
      }
      this.place = place;
    }
    if (device === "cpu" && this.without) {
      model.stay_on_cpu();
    }
    this.device = device;
    this.why = why;
  }

  private refuse(what: string, error: unknown): void {
    const reason = words(error);
    this.trouble = `${what}: ${reason}.`;
    this.notice(`${what}, so the CPU writes (${reason}).`);
    this.drop();
  }

  /** Gives a GPU back that is not going to be used. */
  private drop(): void {
    void this.opening?.then(close, () => undefined);
    this.opening = undefined;
    this.early = undefined;
    this.release();
  }

  private release(): void {
    this.prepared = false;
    this.model?.leave_gpu();
    if (this.gpu !== undefined) {
      close(this.gpu);
      this.gpu = undefined;
    }
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
}

/** Gives a GPU's memory back, which browsers else keep until they collect garbage. */
function close(gpu: MorGpu): void {
  gpu.close();
  gpu.free();
}

function fasterOf(speeds: Speeds): Device {
  return speeds.gpu > speeds.cpu ? "gpu" : "cpu";
}

/** What an error says, as a part of a sentence that says already what happened. */
function words(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/^the GPU was lost: /, "").replace(/\.$/, "");
}
