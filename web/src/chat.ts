// The conversation: what was said, and the elements that show it.

import { formatDepth, formatDuration, plural } from "./format";
import type { AnswerStats, EndReason, Message, Token } from "./protocol";
import { renderMarkdown } from "./render";

/** Shades a token's depth can have; the style sheet has one rule for each. */
const LEVELS = 4;

const ENDINGS: Record<EndReason, string | null> = {
  stop: null,
  length: "cut at the token limit",
  context: "the context is full",
  stopped: "stopped",
};

/** An answer on the page: rendered Markdown, or its tokens shaded by depth. */
export class AnswerView {
  readonly element: HTMLElement;
  private readonly body: HTMLElement;
  private readonly foot: HTMLElement;
  private readonly tokens: Token[] = [];
  private content = "";
  private frame = 0;
  private shaded: boolean;

  constructor(
    name: string,
    shaded: boolean,
    private readonly maxSteps: number,
    private readonly onGrow: () => void,
  ) {
    this.shaded = shaded;
    this.body = create("div", "answer-body");
    // The role lies on the text alone, so that it reads as the model's reply and nothing else.
    this.body.dataset["role"] = "assistant";
    this.body.dataset["state"] = "streaming";
    this.foot = create("footer", "answer-foot");
    const label = create("h3", "speaker");
    label.textContent = name;
    this.element = create("article", "message answer");
    this.element.append(label, this.body, this.foot);
  }

  /** The reply so far. */
  get text(): string {
    return this.content;
  }

  /** Adds a token; the page is painted at most once a frame. */
  push(token: Token): void {
    this.tokens.push(token);
    this.content += token.text;
    this.schedule();
  }

  /** Starts over, for an answer that is asked for again. */
  clear(): void {
    this.tokens.length = 0;
    this.content = "";
    this.schedule();
  }

  /** Switches between Markdown and shaded tokens. */
  shade(shaded: boolean): void {
    this.shaded = shaded;
    this.schedule();
  }

  /** Ends the answer and shows what it cost. */
  finish(stats: AnswerStats): void {
    this.body.dataset["state"] = "done";
    if (this.content.trim() === "") {
      const note = create("p", "note");
      note.textContent = stats.end === "stopped" ? "Stopped before the first word." : "The model gave no answer.";
      this.element.insertBefore(note, this.foot);
    }
    this.foot.append(describeStats(stats));
    if (this.content !== "") {
      this.foot.append(copyButton(() => this.content));
    }
    this.paint();
  }

  /** Ends the answer with a failure. */
  fail(message: string): void {
    this.body.dataset["state"] = "failed";
    const note = create("p", "note failure");
    note.setAttribute("role", "alert");
    note.textContent = message;
    this.element.insertBefore(note, this.foot);
    this.paint();
  }

  private schedule(): void {
    if (this.frame === 0) {
      this.frame = requestAnimationFrame(() => this.paint());
    }
  }

  private paint(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.body.classList.toggle("shaded", this.shaded);
    if (this.shaded) {
      this.body.replaceChildren(...this.tokens.map((token) => this.tokenElement(token)));
    } else {
      renderMarkdown(this.body, this.content);
    }
    this.onGrow();
  }

  private tokenElement(token: Token): HTMLElement {
    const depth = token.steps.reduce((sum, steps) => sum + steps, 0) / Math.max(1, token.steps.length);
    const share = this.maxSteps === 0 ? 0 : depth / this.maxSteps;
    const span = create("span", "token");
    span.textContent = token.text;
    span.dataset["level"] = String(Math.min(LEVELS, Math.max(0, Math.round(share * LEVELS))));
    span.title = token.steps.length === 0
      ? "completes the token before it"
      : `depth ${formatDepth(depth)} (steps per layer: ${token.steps.join(" ")}), ` +
        `probability ${(token.probability * 100).toFixed(1)} %`;
    return span;
  }
}

/** The messages so far, oldest first, and their elements. */
export class Conversation {
  private readonly messages: Message[] = [];
  private readonly answers: AnswerView[] = [];

  constructor(private readonly log: HTMLElement) {}

  get isEmpty(): boolean {
    return this.messages.length === 0;
  }

  /** Everything said, for the next prompt. */
  history(): Message[] {
    return this.messages.map((message) => ({ ...message }));
  }

  /** Adds what the person wrote, verbatim. */
  addQuestion(text: string): void {
    this.messages.push({ role: "user", content: text });
    const element = create("article", "message question");
    const label = create("h3", "speaker visually-hidden");
    label.textContent = "You";
    const body = create("div", "question-body");
    body.dataset["role"] = "user";
    body.textContent = text;
    element.append(label, body);
    this.log.append(element);
  }

  /** Adds an empty answer to be filled. */
  addAnswer(view: AnswerView): void {
    this.answers.push(view);
    this.log.append(view.element);
  }

  /** Puts a finished reply into the history. */
  keepAnswer(view: AnswerView): void {
    this.messages.push({ role: "assistant", content: view.text });
  }

  /** Takes back the last question, whose answer failed: the next prompt must not hold two in a row. */
  dropQuestion(): void {
    if (this.messages.at(-1)?.role === "user") {
      this.messages.pop();
    }
  }

  /** Switches every answer between Markdown and shaded tokens. */
  shade(shaded: boolean): void {
    for (const answer of this.answers) {
      answer.shade(shaded);
    }
  }

  clear(): void {
    this.messages.length = 0;
    this.answers.length = 0;
    this.log.replaceChildren();
  }
}

function describeStats(stats: AnswerStats): HTMLElement {
  const parts = [
    `${stats.tokens_per_second > 0 ? stats.tokens_per_second.toFixed(0) : "–"} tokens/s`,
    plural(stats.tokens, "token"),
    `first after ${formatDuration(stats.first_token_ms)}`,
    `depth ${formatDepth(stats.mean_depth)}`,
  ];
  const ending = ENDINGS[stats.end];
  if (ending !== null) {
    parts.push(ending);
  }
  if (stats.dropped_messages > 0) {
    parts.push(`${plural(stats.dropped_messages, "earlier message")} left out`);
  }
  const element = create("p", "stats");
  // Only the newest carries the name by which tests and tools find it.
  document.querySelector('[data-testid="stats"]')?.removeAttribute("data-testid");
  element.dataset["testid"] = "stats";
  element.textContent = parts.join(" · ");
  return element;
}

function copyButton(text: () => string): HTMLButtonElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy answer");
  button.addEventListener("click", async () => {
    let done = "Copied";
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      done = "Not allowed";
    }
    button.textContent = done;
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
  return button;
}

function create(tag: string, className: string): HTMLElement {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}
