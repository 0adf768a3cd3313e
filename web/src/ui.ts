// The page around the conversation: load state, composer, settings and the dialog about the model.

import { formatBytes, formatCount } from "./format";
import type { DeviceChoice, ModelFiles, Problem } from "./protocol";
import { renderMarkdown, stripFrontMatter } from "./render";
import type { Settings } from "./settings";

/** The element of this id, which the page's HTML is known to have. */
export function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof type)) {
    throw new Error(`index.html lacks a ${type.name} with id "${id}"`);
  }
  return element;
}

/** What a technical model of this size can be asked; the first is also what the tests ask. */
const EXAMPLES = [
  "How do I list the contents of a tar file?",
  "What does `git stash` do?",
  "How do I find all files larger than 100 MB?",
  "Write a Python function to reverse a string.",
  "What does the acronym DNS stand for?",
] as const;

/** The welcome section: what this is, how far it has loaded, what went wrong. */
export class Welcome {
  private readonly section = byId("welcome", HTMLElement);
  private readonly load = byId("load", HTMLElement);
  private readonly bar = byId("load-bar", HTMLProgressElement);
  private readonly label = byId("load-label", HTMLLabelElement);
  private readonly bytes = byId("load-bytes", HTMLElement);
  private readonly problem = byId("problem", HTMLElement);
  private readonly examples = byId("examples", HTMLElement);

  constructor(onExample: (text: string) => void, onRetry: () => void) {
    for (const text of EXAMPLES) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => onExample(text));
      const item = document.createElement("li");
      item.append(button);
      this.examples.append(item);
    }
    byId("retry", HTMLButtonElement).addEventListener("click", onRetry);
  }

  show(visible: boolean): void {
    this.section.hidden = !visible;
  }

  loading(): void {
    this.label.textContent = "Loading the model";
    this.bar.removeAttribute("value");
    this.bytes.textContent = "";
    this.load.hidden = false;
    this.problem.hidden = true;
    this.examples.hidden = true;
  }

  /** Shows what has arrived; a bar without an end while the `total` is unknown. */
  progress(loaded: number, total: number | null): void {
    if (total === null) {
      this.bar.removeAttribute("value");
      this.bytes.textContent = loaded === 0 ? "" : formatBytes(loaded);
      return;
    }
    this.bar.max = Math.max(1, total);
    this.bar.value = loaded;
    this.bytes.textContent = `${formatBytes(loaded)} of ${formatBytes(total)}`;
  }

  preparing(): void {
    this.label.textContent = "Preparing the model";
  }

  ready(name: string, files: ModelFiles): void {
    this.load.hidden = true;
    this.examples.hidden = false;
    byId("note", HTMLElement).textContent =
      `${name} is a language model of ${formatCount(files.info.parameters, "words")} parameters, thousands of times smaller ` +
      "than the assistants you may know. It answers short technical questions, and it is often wrong: check an " +
      "answer before you use it. It runs wholly in this tab; nothing you type leaves this machine." +
      (files.card === null ? "" : " “About” tells what it was trained on.");
  }

  failed(problem: Problem): void {
    this.load.hidden = true;
    byId("problem-message", HTMLElement).textContent = problem.message;
    byId("problem-remedy", HTMLElement).textContent = problem.remedy;
    this.problem.hidden = false;
  }
}

/** The message box with its two buttons. */
export class Composer {
  private readonly box = byId("message", HTMLTextAreaElement);
  private readonly send = byId("send", HTMLButtonElement);
  private readonly stop = byId("stop", HTMLButtonElement);
  private readonly status = byId("status", HTMLElement);
  private ready = false;
  private answering = false;

  constructor(onSend: (text: string) => void, onStop: () => void) {
    const submit = () => {
      const text = this.box.value.trim();
      if (this.ready && !this.answering && text !== "") {
        this.box.value = "";
        this.refresh();
        onSend(text);
      }
    };
    byId("composer", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    this.box.addEventListener("keydown", (event) => {
      // While an input method composes a character, Enter belongs to it.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        submit();
      }
    });
    this.box.addEventListener("input", () => this.refresh());
    this.stop.addEventListener("click", onStop);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.answering && document.querySelector("dialog[open]") === null) {
        event.preventDefault();
        onStop();
      }
    });
  }

  focus(): void {
    this.box.focus();
  }

  /** Puts a message back that was not answered, unless another has been begun. */
  giveBack(text: string): void {
    if (this.box.value === "") {
      this.box.value = text;
      this.refresh();
    }
  }

  say(status: string): void {
    this.status.textContent = status;
  }

  setReady(ready: boolean): void {
    this.ready = ready;
    this.refresh();
  }

  setAnswering(answering: boolean): void {
    // A button that vanishes while it has the focus would drop the keyboard at the page's top.
    const focused = document.activeElement === this.send || document.activeElement === this.stop;
    this.answering = answering;
    this.send.hidden = answering;
    this.stop.hidden = !answering;
    this.refresh();
    if (focused) {
      this.box.focus();
    }
  }

  private refresh(): void {
    this.send.disabled = !this.ready || this.box.value.trim() === "";
    // Where the style sheet's `field-sizing` is unknown, fit the box to its text by hand.
    if (!CSS.supports("field-sizing", "content")) {
      this.box.style.height = "auto";
      this.box.style.height = `${this.box.scrollHeight}px`;
    }
  }
}

/** The settings dialog. Values outside their range are brought into it. */
export class SettingsPanel {
  private readonly dialog = byId("settings", HTMLDialogElement);
  private readonly temperature = byId("temperature", HTMLInputElement);
  private readonly topK = byId("top-k", HTMLInputElement);
  private readonly topP = byId("top-p", HTMLInputElement);
  private readonly maxNewTokens = byId("max-new-tokens", HTMLInputElement);
  private readonly seed = byId("seed", HTMLInputElement);
  private readonly depth = byId("depth", HTMLSelectElement);
  private readonly showDepth = byId("show-depth", HTMLInputElement);
  private readonly device = byId("device", HTMLSelectElement);

  constructor(onChange: (settings: Settings) => void, onReset: () => void) {
    byId("open-settings", HTMLButtonElement).addEventListener("click", () => this.dialog.showModal());
    closeOnBackdrop(this.dialog);
    this.temperature.addEventListener("input", () => this.echo());
    this.dialog.addEventListener("change", () => {
      const settings = this.read();
      this.show(settings);
      onChange(settings);
    });
    byId("reset-settings", HTMLButtonElement).addEventListener("click", onReset);
  }

  /** Offers the depths that the model has. */
  offer(info: ModelFiles["info"]): void {
    const own = info.depth === null ? "as the model decides" : `as trained (${info.depth})`;
    this.depth.replaceChildren(new Option(own, ""));
    for (let steps = 1; steps <= info.max_steps; steps++) {
      this.depth.append(new Option(String(steps), String(steps)));
    }
    this.maxNewTokens.max = String(info.context);
    const legend = byId("legend", HTMLElement);
    legend.replaceChildren("shallow ");
    for (let level = 0; level <= 4; level++) {
      const swatch = document.createElement("span");
      swatch.className = "token";
      swatch.dataset["level"] = String(level);
      swatch.textContent = "  ";
      legend.append(swatch);
    }
    legend.append(" deep");
  }

  show(settings: Settings): void {
    this.temperature.value = String(settings.temperature);
    this.topK.value = String(settings.topK);
    this.topP.value = String(settings.topP);
    this.maxNewTokens.value = String(settings.maxNewTokens);
    this.seed.value = settings.seed === null ? "" : String(settings.seed);
    this.depth.value = settings.depth === null ? "" : String(settings.depth);
    // A stored depth that this model does not have.
    if (this.depth.selectedIndex === -1) {
      this.depth.value = "";
    }
    this.showDepth.checked = settings.showDepth;
    this.device.value = settings.device;
    this.echo();
  }

  read(): Settings {
    return {
      temperature: inRange(this.temperature),
      topK: Math.round(inRange(this.topK)),
      topP: inRange(this.topP),
      maxNewTokens: Math.round(inRange(this.maxNewTokens)),
      seed: this.seed.value === "" ? null : Math.round(inRange(this.seed)),
      depth: this.depth.value === "" ? null : Number(this.depth.value),
      showDepth: this.showDepth.checked,
      device: this.device.value as DeviceChoice,
    };
  }

  private echo(): void {
    byId("temperature-value", HTMLOutputElement).textContent = Number(this.temperature.value).toFixed(2);
  }
}

function inRange(input: HTMLInputElement): number {
  const value = Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : Number(input.min);
  const max = input.max === "" ? Infinity : Number(input.max);
  return Math.min(max, Math.max(Number(input.min), value));
}

/** The dialog with the model's facts and its card. */
export class AboutPanel {
  private readonly dialog = byId("about", HTMLDialogElement);
  private readonly open = byId("open-about", HTMLButtonElement);

  constructor() {
    this.open.addEventListener("click", () => this.dialog.showModal());
    closeOnBackdrop(this.dialog);
  }

  show(name: string, files: ModelFiles): void {
    const { info } = files;
    const facts: [string, string][] = [
      ["Name", name],
      ["Size", `${info.parameters.toLocaleString("en")} parameters, ${formatBytes(info.weight_bytes)} of weights`],
      ["Shape", `${info.layers} layers, ${info.hidden_size} wide, ${info.heads} attention heads`],
      ["Vocabulary", `${info.vocab_size.toLocaleString("en")} tokens`],
      ["Context", `${info.context.toLocaleString("en")} tokens, question and answer together`],
      [
        "Depth",
        info.depth === null
          ? `chosen by routers, up to ${info.max_steps} steps per layer`
          : `${info.depth} of at most ${info.max_steps} steps per layer`,
      ],
      ["Loaded from", loadedFrom(files)],
    ];
    byId("facts", HTMLElement).replaceChildren(
      ...facts.flatMap(([term, text]) => {
        const dt = document.createElement("dt");
        dt.textContent = term;
        const dd = document.createElement("dd");
        dd.textContent = text;
        return [dt, dd];
      }),
    );
    const card = byId("card", HTMLElement);
    if (files.card === null) {
      card.textContent = "This model folder has no model card (README.md).";
    } else {
      renderMarkdown(card, stripFrontMatter(files.card));
    }
    this.open.disabled = false;
  }
}

function loadedFrom({ cached, confirmed }: ModelFiles): string {
  if (!confirmed) {
    return "this browser's cache, which the server has not confirmed";
  }
  return cached ? "this browser's cache, as the server has it now" : "the server this page came from";
}

/** A click beside a dialog closes it. */
function closeOnBackdrop(dialog: HTMLDialogElement): void {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) {
      dialog.close();
    }
  });
}
