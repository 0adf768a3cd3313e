// The page's side of the worker: one object, three questions, and callbacks for what arrives in between.

import type {
  AnswerStats,
  FromWorker,
  GenerationOptions,
  Message,
  ModelFiles,
  Problem,
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
  progress(loaded: number, total: number, cached: boolean): void;
  preparing(): void;
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

  /** Loads the model of `folder`, in a new worker: a failed load leaves nothing behind. */
  load(folder: URL, reload: boolean, events: LoadEvents): Promise<ModelFiles> {
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
      this.send({ type: "load", folder: folder.href, reload });
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

  private send(message: ToWorker): void {
    this.worker?.postMessage(message);
  }

  private fail(problem: Problem): void {
    const error = new WorkerProblem(problem);
    this.loading?.reject(error);
    this.answer?.reject(error);
    this.loading = undefined;
    this.answer = undefined;
  }

  private receive(message: FromWorker): void {
    switch (message.type) {
      case "progress":
        this.loading?.progress(message.loaded, message.total, message.cached);
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
      case "bench-done":
      case "bench-failed":
        // Only the benchmark script asks for these, in a worker of its own.
        break;
    }
  }
}
