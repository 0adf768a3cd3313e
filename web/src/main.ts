// Wires the page together. The model lives in a worker; this thread only paints.

import "./style.css";

import { AnswerView, Conversation } from "./chat";
import { deviceInShort, DevicePanel, Notice } from "./device-panel";
import { formatBytes, formatCount } from "./format";
import type { DeviceState, ModelFiles, Problem } from "./protocol";
import { clearSettings, DEFAULTS, readSettings, type Settings, toOptions, withModelDefaults, writeSettings } from "./settings";
import { readSpeeds, writeSpeeds } from "./speeds";
import { AboutPanel, byId, Composer, SettingsPanel, Welcome } from "./ui";
import { WorkerClient, WorkerProblem } from "./worker-client";

const DEFAULT_MODEL = "technical-10m";
/** Seconds for a part of the GPU's start, or for a token. Software in a GPU's place takes some of them. */
const GPU_PATIENCE = 120;
/** Within this many pixels of its end, the conversation follows the answer. */
const FOLLOW_DISTANCE = 80;

const devicePanel = new DevicePanel();
const notice = new Notice();
const client = new WorkerClient({
  device: (state) => {
    device = state;
    devicePanel.show(state);
    nameModel();
  },
  notice: (text) => notice.show(text),
  speeds: (adapter, speeds) => writeSpeeds(speedsKey, adapter, speeds),
  startup: (parts) => devicePanel.showStartup(parts),
  // Most likely the GPU's fault if it was in use: what else fails, fails while loading.
  crashed: (reason) => {
    const withoutGpu = settings.device === "cpu" ? null : reason;
    void load(false, withoutGpu);
  },
});
const log = byId("log", HTMLElement);
const main = byId("main", HTMLElement);
const conversation = new Conversation(log);
const address = new URLSearchParams(location.search);
let files: ModelFiles | undefined;
let device: DeviceState | undefined;
let modelName = "";
/** Under which speeds of devices are remembered. */
let speedsKey = "";
let answering = false;
let settings: Settings = readSettings(DEFAULTS);
/** Counts chats: an answer that ends after "New chat" belongs to none. */
let chat = 0;
let following = true;

const about = new AboutPanel();
const composer = new Composer((text) => void ask(text), () => client.stop());
const welcome = new Welcome((text) => void ask(text), () => void load(true));
const panel = new SettingsPanel(
  (changed) => {
    changeDevice(changed);
    settings = changed;
    writeSettings(settings);
    conversation.shade(settings.showDepth);
  },
  () => {
    clearSettings();
    const defaults = files === undefined ? { ...DEFAULTS } : withModelDefaults(files.defaults, files.info.context);
    changeDevice(defaults);
    settings = defaults;
    panel.show(settings);
    conversation.shade(settings.showDepth);
  },
);
panel.show(settings);

byId("new-chat", HTMLButtonElement).addEventListener("click", () => {
  chat += 1;
  client.stop();
  conversation.clear();
  welcome.show(true);
  following = true;
  composer.focus();
});
main.addEventListener("scroll", () => {
  following = main.scrollHeight - main.scrollTop - main.clientHeight < FOLLOW_DISTANCE;
});

if (address.has("test")) {
  // What only tests do: lose the GPU, and compare it with the CPU.
  Object.assign(window, { morTest: client });
}
void load(false);
composer.focus();

function changeDevice(changed: Settings): void {
  if (changed.device !== settings.device) {
    notice.clear();
    client.setDevice(changed.device);
  }
}

/** The model's folder, on this page's own server: `?model=NAME` is `models/NAME/`, anything with a slash a path. */
function modelFolder(): URL {
  const asked = address.get("model") ?? DEFAULT_MODEL;
  const path = asked.includes("/") ? asked : `models/${asked}`;
  const folder = new URL(path.endsWith("/") ? path : `${path}/`, document.baseURI);
  if (folder.origin !== location.origin) {
    throw new WorkerProblem({
      message: `The address names a model on another server (${folder.host}).`,
      remedy: "For your safety this page loads models only from the server it came from.",
    });
  }
  return folder;
}

/** Loads the model, without the GPU if it has brought a worker down. */
async function load(reload: boolean, withoutGpu: string | null = null): Promise<void> {
  files = undefined;
  composer.setReady(false);
  composer.say("Loading the model…");
  welcome.loading();
  notice.clear();
  try {
    const folder = modelFolder();
    speedsKey = folder.pathname;
    const options = {
      reload,
      device: settings.device,
      speeds: readSpeeds(speedsKey),
      withoutGpu,
      kernels: address.get("kernels"),
      patience: Number(address.get("patience")) || GPU_PATIENCE,
    };
    const loaded = await client.load(folder, options, {
      progress: (done, total) => welcome.progress(done, total),
      preparing: () => welcome.preparing(),
    });
    modelName = decodeURIComponent(folder.pathname.split("/").at(-2) ?? "") || "model";
    files = loaded;
    settings = readSettings(withModelDefaults(loaded.defaults, loaded.info.context));
    nameModel();
    devicePanel.showStartup(loaded.startup);
    panel.offer(loaded.info);
    panel.show(settings);
    settings = panel.read();
    about.show(modelName, loaded);
    welcome.ready(modelName, loaded);
    composer.setReady(true);
    composer.say("Ready");
  } catch (error) {
    const problem = problemOf(error);
    if (error instanceof WorkerProblem && error.crashed && withoutGpu === null && settings.device !== "cpu") {
      await load(reload, problem.message);
      return;
    }
    welcome.failed(problem);
    welcome.show(true);
    composer.say("The model could not be loaded.");
    byId("retry", HTMLButtonElement).focus();
  }
}

/** Says in the bar which model it is, and where it runs. */
function nameModel(): void {
  if (files === undefined || device === undefined) {
    return;
  }
  const { parameters, weight_bytes } = files.info;
  byId("model-name", HTMLElement).textContent = [
    modelName,
    `${formatCount(parameters, "short")} parameters`,
    formatBytes(weight_bytes),
    deviceInShort(device),
  ].join(" · ");
}

async function ask(text: string): Promise<void> {
  if (files === undefined || answering) {
    return;
  }
  answering = true;
  const current = chat;
  const view = new AnswerView(modelName, settings.showDepth, files.info.max_steps, follow);
  welcome.show(false);
  conversation.addQuestion(text);
  const history = conversation.history();
  conversation.addAnswer(view);
  // Screen readers hear the answer once it is whole, not token by token.
  log.setAttribute("aria-busy", "true");
  composer.setAnswering(true);
  composer.say("Answering…");
  composer.focus();
  following = true;
  follow();
  let ending = "Ready";
  try {
    const stats = await client.ask(history, toOptions(settings, files.defaults), (token) => view.push(token));
    view.finish(stats);
    ending = stats.end === "stopped" ? "Stopped" : "Ready";
    if (current === chat) {
      if (view.text === "") {
        conversation.dropQuestion();
      } else {
        conversation.keepAnswer(view);
      }
    }
  } catch (error) {
    const problem = problemOf(error);
    view.fail(`${problem.message} ${problem.remedy}`.trim());
    ending = "The answer failed.";
    if (current === chat) {
      conversation.dropQuestion();
    }
  } finally {
    answering = false;
    log.removeAttribute("aria-busy");
    composer.setAnswering(false);
    composer.say(ending);
  }
}

/** Keeps the end of the conversation in view unless the person has scrolled away from it. */
function follow(): void {
  if (following) {
    main.scrollTop = main.scrollHeight;
  }
}

function problemOf(error: unknown): Problem {
  if (error instanceof WorkerProblem) {
    return error.problem;
  }
  return { message: error instanceof Error ? error.message : String(error), remedy: "Reload the page." };
}
