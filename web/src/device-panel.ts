// The part of the page about devices: which one the model runs on and why, what startup took, and notices.

import { formatDuration } from "./format";
import type { DeviceChoice, DeviceState, StartupPart } from "./protocol";
import { byId } from "./ui";

/** Names of a device as people write them. */
const NAMES = { cpu: "CPU", gpu: "GPU" } as const;

/** Where the model runs, and what startup took, in the settings dialog. */
export class DevicePanel {
  private readonly about = byId("device-help", HTMLElement);
  private readonly adapter = byId("adapter", HTMLElement);
  private readonly summary = byId("startup-summary", HTMLElement);
  private readonly parts = byId("startup-parts", HTMLElement);

  show(state: DeviceState): void {
    this.about.textContent = `The model runs on the ${NAMES[state.device]}. ${state.why}`;
    this.about.dataset["device"] = state.device;
    const lines: string[] = [];
    if (state.adapter !== null) {
      lines.push(`GPU: ${state.adapter}${state.variant === null ? "" : ` (${state.variant} kernels)`}.`);
    }
    if (state.trouble !== null) {
      lines.push(state.trouble);
    }
    this.adapter.textContent = lines.join(" ");
  }

  switching(to: DeviceChoice): void {
    this.about.textContent = to === "auto" ? "Finding out which device is faster…" : `Going to the ${NAMES[to]}…`;
  }

  showStartup(parts: readonly StartupPart[]): void {
    const ready = parts.find((part) => part.name === "ready");
    this.summary.textContent = ready === undefined ? "Startup" : `Startup took ${formatDuration(ready.ms)}`;
    this.parts.replaceChildren(
      ...parts.flatMap(({ name, ms, note }) => {
        const term = document.createElement("dt");
        term.textContent = name;
        const text = document.createElement("dd");
        text.textContent = [formatDuration(ms), note].filter((part) => part !== "").join(", ");
        text.dataset["part"] = name;
        text.dataset["ms"] = ms.toFixed(1);
        return [term, text];
      }),
    );
  }
}

/** The device in a few words, for the line that names the model. */
export function deviceInShort(state: DeviceState): string {
  return state.device === "gpu" && state.adapter !== null ? `GPU: ${state.adapter}` : NAMES[state.device];
}

/** A line above the message box for what the person should know although all goes on. */
export class Notice {
  private readonly bar = byId("notice", HTMLElement);
  private readonly text = byId("notice-text", HTMLElement);

  constructor() {
    byId("close-notice", HTMLButtonElement).addEventListener("click", () => this.clear());
  }

  show(text: string): void {
    // A second notice does not hide the first, which may be its reason.
    const before = this.bar.hidden ? "" : `${this.text.textContent ?? ""} `;
    this.bar.hidden = false;
    this.text.textContent = before + text;
  }

  clear(): void {
    this.bar.hidden = true;
    this.text.textContent = "";
  }
}
