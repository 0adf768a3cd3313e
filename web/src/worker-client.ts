// The page's side of the worker: one object, three questions, and callbacks for what arrives in between.

import type {
  AgreementResult,
  AnswerStats,
  DeviceChoice,
  DeviceState,
  FromWorker,
  GenerationOptions,
  Message,
  ModelFiles,
  Problem,
  Speeds,
  StartupPart,
  Token,
  ToWorker,
} from "./protocol";

/** A failure that the page can show as it is. */
export class WorkerProblem extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.message);
    this.name = "WorkerProblem";
    this.problem = problem;
  }
}

export interface LoadEvents {
  progress(loaded: number, total: number): void;
  preparing(): void;
}

/** What may arrive at any time. */
export interface WorkerEvents {
  device(state: DeviceState): void;
  notice(text: string): void;
  speeds(adapter: string, speeds: Speeds): void;
  startup(parts: StartupPart[]): void;
}

/** How a model is loaded. */
export interface LoadOptions {
  /** Fetch everything again. */
  reload: boolean;
  device: DeviceChoice;
  /** Earlier measurements of this model, by adapter. */
  speeds: Record<string, Speeds>;
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
  private agreement: Pending<AgreementResult> | undefined;
  private lastId = 0;

  constructor(private readonly events: WorkerEvents) {}

  /** Loads the model of `folder`, in a new worker: a failed load leaves nothing behind. */
  load(folder: URL, options: LoadOptions, events: LoadEvents): Promise<ModelFiles> {
    this.worker?.terminate();
    this.fail({ message: "The model is being loaded again.", remedy: "" });
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "mor-model" });
    worker.addEventListener("message", (event: MessageEvent<FromWorker>) => this.receive(event.data));
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.fail({
        message: `The model's worker failed: ${event.message || "its script could not be loaded"}.`,
        remedy: "Reload the page. If it stays, use a current version of the browser.",
      });
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
    this.send({ type: "set-device", device });
  }

  /** Loses the GPU as a crash of its driver would: for tests. */
  loseGpu(): void {
    this.send({ type: "lose-gpu" });
  }

  /** Compares the GPU's tokens with the CPU's: for tests. */
  agree(questions: string[], tokens: number): Promise<AgreementResult> {
    return new Promise((resolve, reject) => {
      this.agreement = { resolve, reject };
      this.send({ type: "agree", questions, tokens });
    });
  }

  private send(message: ToWorker): void {
    this.worker?.postMessage(message);
  }

  private fail(problem: Problem): void {
    const error = new WorkerProblem(problem);
    this.loading?.reject(error);
    this.answer?.reject(error);
    this.agreement?.reject(error);
    this.loading = undefined;
    this.answer = undefined;
    this.agreement = undefined;
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
        this.events.device(message.state);
        break;
      case "notice":
        this.events.notice(message.text);
        break;
      case "speeds":
        this.events.speeds(message.adapter, message.speeds);
        break;
      case "startup":
        this.events.startup(message.parts);
        break;
      case "agree-done":
        this.agreement?.resolve(message.result);
        this.agreement = undefined;
        break;
      case "agree-failed":
        this.agreement?.reject(new WorkerProblem(message.problem));
        this.agreement = undefined;
        break;
      case "bench-done":
      case "bench-failed":
        // Only the benchmark script asks for these, in a worker of its own.
        break;
    }
  }
}
