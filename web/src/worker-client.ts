// The page's side of the worker: one object, three questions, and callbacks for what arrives in between.

import type {
  AnswerStats,
  DeviceChoice,
  DeviceState,
  Experience,
  FromWorker,
  GenerationOptions,
  LoadOptions,
  Message,
  ModelFiles,
  Problem,
  StartupPart,
  Token,
  ToWorker,
} from "./protocol";

/** Seconds for a part of the GPU's start, or for a token. Software in a GPU's place takes some of them. */
export const GPU_PATIENCE = 120;
/** Seconds for a call to the GPU to return once the CPU was chosen: time for the token at hand. */
const LAST_CALL = 1;

/**
 * How a worker ended: by a failure; by one of the GPU, which threw or did not return; or because another device was chosen
 * than it could go to.
 */
export type Ending = "failed" | "gpu-failed" | "left";

/** A failure that the page can show as it is. */
export class WorkerProblem extends Error {
  readonly problem: Problem;
  /** Set where the worker is gone; otherwise it can be asked again. */
  readonly ending: Ending | undefined;

  constructor(problem: Problem, ending?: Ending) {
    super(problem.message);
    this.name = "WorkerProblem";
    this.problem = problem;
    this.ending = ending;
  }
}

export interface LoadEvents {
  progress(loaded: number, total: number | null): void;
  preparing(): void;
}

/** What may arrive at any time. */
export interface WorkerEvents {
  device(state: DeviceState): void;
  notice(text: string): void;
  switching(to: DeviceChoice): void;
  /** Something to remember about a GPU. */
  learned(adapter: string, experience: Experience): void;
  startup(parts: StartupPart[]): void;
  /** The worker is gone, and not while it loaded: a model must be loaded again. */
  ended(how: Ending, reason: string): void;
}

interface Pending<T> {
  resolve(value: T): void;
  reject(error: WorkerProblem): void;
}

/** Owns the worker that owns the model. */
export class WorkerClient {
  private worker: Worker | undefined;
  private loading: (Pending<ModelFiles> & LoadEvents) | undefined;
  private answer: (Pending<AnswerStats> & { id: number; onToken: (token: Token) => void }) | undefined;
  private lastId = 0;
  /** The GPU that was called last, and calls to it that have not returned. */
  private adapter = "";
  private calls = 0;
  /** Whether the CPU was chosen. */
  private leaving = false;
  private watchdog: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly events: WorkerEvents) {}

  /** Loads the model of `folder`, in a new worker: a failed load leaves nothing behind. */
  load(folder: URL, options: LoadOptions, events: LoadEvents): Promise<ModelFiles> {
    this.end({ message: "The model is being loaded again.", remedy: "" });
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "mor-model" });
    worker.addEventListener("message", (event: MessageEvent<FromWorker>) => {
      // What an ended worker had sent before may still arrive.
      if (this.worker === worker) {
        this.receive(event.data);
      }
    });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      if (this.worker !== worker) {
        return;
      }
      const what = event.message || "its script could not be loaded";
      this.crash(this.calls > 0 ? "gpu-failed" : "failed", `The model's worker failed: ${what}.`);
    });
    this.worker = worker;
    return new Promise((resolve, reject) => {
      this.loading = { resolve, reject, ...events };
      this.send({ type: "load", folder: folder.href, ...options });
    });
  }

  /** Asks for an answer; `onToken` gets each token as it is written. */
  ask(messages: Message[], options: GenerationOptions, onToken: (token: Token) => void): Promise<AnswerStats> {
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.answer = { id, resolve, reject, onToken };
      this.send({ type: "ask", id, messages, options });
    });
  }

  /** Ends the answer after the current token. */
  stop(): void {
    if (this.answer !== undefined) {
      this.send({ type: "stop", id: this.answer.id });
    }
  }

  /** Goes on with this device from the next token on. */
  setDevice(device: DeviceChoice): void {
    this.leaving = device === "cpu";
    this.send({ type: "set-device", device });
    this.watch();
  }

  /** Has another worker started, as one must be that was told to leave the GPU alone. */
  replace(): void {
    this.crash("left", "Another device was chosen.");
  }

  private send(message: ToWorker): void {
    this.worker?.postMessage(message);
  }

  /** Waits for the GPU, but not for ever, and not in the worker, which may be what does not come back. */
  private watch(): void {
    clearTimeout(this.watchdog);
    if (this.calls === 0) {
      return;
    }
    this.watchdog = this.leaving
      ? setTimeout(() => this.crash("left", "Another device was chosen."), LAST_CALL * 1000)
      : setTimeout(() => {
          this.crash("gpu-failed", `The GPU does not work: It did not answer within ${GPU_PATIENCE} seconds.`);
        }, GPU_PATIENCE * 1000);
  }

  private crash(how: Ending, reason: string): void {
    const wasLoading = this.loading !== undefined;
    if (how === "gpu-failed") {
      this.events.learned(this.adapter, { failure: reason, version: null });
    }
    const remedy = "Reload the page. If it stays, use a current version of the browser.";
    this.end({ message: reason, remedy: wasLoading ? remedy : "" }, how);
    if (!wasLoading) {
      this.events.ended(how, reason);
    }
  }

  /** Ends the worker, and all that was asked of it. */
  private end(problem: Problem, how?: Ending): void {
    this.worker?.terminate();
    this.worker = undefined;
    this.calls = 0;
    this.leaving = false;
    clearTimeout(this.watchdog);
    const error = new WorkerProblem(problem, how);
    this.loading?.reject(error);
    this.answer?.reject(error);
    this.loading = undefined;
    this.answer = undefined;
  }

  private receive(message: FromWorker): void {
    switch (message.type) {
      case "progress":
        this.loading?.progress(message.loaded, message.total);
        break;
      case "preparing":
        this.loading?.preparing();
        break;
      case "loaded":
        this.loading?.resolve(message.files);
        this.loading = undefined;
        break;
      case "load-failed":
        this.loading?.reject(new WorkerProblem(message.problem));
        this.loading = undefined;
        break;
      case "token":
        if (this.answer?.id === message.id) {
          this.answer.onToken(message.token);
        }
        break;
      case "done":
        if (this.answer?.id === message.id) {
          this.answer.resolve(message.stats);
          this.answer = undefined;
        }
        break;
      case "ask-failed":
        if (this.answer?.id === message.id) {
          this.answer.reject(new WorkerProblem(message.problem));
          this.answer = undefined;
        }
        break;
      case "device":
        // Where the CPU was chosen, the worker has come to it by itself.
        this.leaving &&= message.state.choice !== "cpu";
        this.events.device(message.state);
        break;
      case "notice":
        this.events.notice(message.text);
        break;
      case "switching":
        this.events.switching(message.to);
        break;
      case "gpu-call":
        this.adapter = message.adapter;
        this.calls += 1;
        this.watch();
        break;
      case "gpu-return":
        this.calls -= 1;
        this.watch();
        break;
      case "learned":
        this.events.learned(message.adapter, message.experience);
        break;
      case "startup":
        this.events.startup(message.parts);
        break;
      case "bench-done":
      case "bench-failed":
        // Only the benchmark script asks for these, in a worker of its own.
        break;
    }
  }
}
