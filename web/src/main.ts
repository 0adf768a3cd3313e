// Wires the page together. The model lives in a worker; this thread only paints.

import "./style.css";

import { folderAddress, folderName } from "./address";
import { AnswerView, Conversation } from "./chat";
import { deviceInShort, DevicePanel, Notice } from "./device-panel";
import { forgetFailures, readExperience, writeExperience } from "./experience";
import { formatBytes, formatCount } from "./format";
import type { AnswerStats, DeviceState, GenerationOptions, Message, ModelFiles, Problem } from "./protocol";
import { clearSettings, DEFAULTS, readSettings, type Settings, toOptions, withModelDefaults, writeSettings } from "./settings";
import { AboutPanel, byId, Composer, SettingsPanel, Welcome } from "./ui";
import { WorkerClient, WorkerProblem } from "./worker-client";

const DEFAULT_MODEL = "technical-10m";
/** Within this many pixels of its end, the conversation follows the answer. */
const FOLLOW_DISTANCE = 80;

const address = new URLSearchParams(location.search);
const devicePanel = new DevicePanel();
const notice = new Notice();
const client = new WorkerClient({
  device: (state) => {
    device = state;
    devicePanel.show(state);
    nameModel();
  },
  notice: (text) => notice.show(text),
  switching: (to) => devicePanel.switching(to),
  learned: (adapter, experience) => writeExperience(modelKey, adapter, experience),
  startup: (parts) => devicePanel.showStartup(parts),
  ended: (how, reason) => {
    loading = load(false, how === "gpu-failed" ? reason : null);
  },
});
const log = byId("log", HTMLElement);
const main = byId("main", HTMLElement);
const conversation = new Conversation(log);
let files: ModelFiles | undefined;
let device: DeviceState | undefined;
let modelName = "";
/** Under which is remembered how devices did. */
let modelKey = "";
/** Whether the worker was told to leave the GPU alone. */
let gpuAvoided = false;
/** Whether the model that is being loaded can be used in the end. */
let loading: Promise<boolean> = Promise.resolve(false);
let answering = false;
/** Whether the answer that is being written was told to stop. */
let stopping = false;
let settings: Settings = readSettings(DEFAULTS);
/** Counts chats: an answer that ends after "New chat" belongs to none. */
let chat = 0;
let following = true;

const about = new AboutPanel();
const composer = new Composer((text) => void ask(text), stop);
const welcome = new Welcome((text) => void ask(text), () => {
  loading = load(true);
});
const panel = new SettingsPanel(
  (changed) => {
    change(changed);
    writeSettings(settings);
    conversation.shade(settings.showDepth);
  },
  () => {
    clearSettings();
    const defaults = files === undefined ? { ...DEFAULTS } : withModelDefaults(files.defaults, files.info.context);
    change(defaults);
    panel.show(settings);
    conversation.shade(settings.showDepth);
  },
);
panel.show(settings);

byId("new-chat", HTMLButtonElement).addEventListener("click", () => {
  chat += 1;
  stop();
  conversation.clear();
  welcome.show(true);
  following = true;
  composer.focus();
});
main.addEventListener("scroll", () => {
  following = main.scrollHeight - main.scrollTop - main.clientHeight < FOLLOW_DISTANCE;
});

loading = load(false);
composer.focus();

/** Takes new settings over, and goes to another device if that has changed. */
function change(changed: Settings): void {
  const before = settings.device;
  settings = changed;
  if (changed.device === before) {
    return;
  }
  notice.clear();
  if (changed.device === "gpu") {
    forgetFailures(modelKey);
  }
  if (changed.device === "gpu" && gpuAvoided) {
    client.replace();
  } else {
    client.setDevice(changed.device);
  }
}

/** The model's folder, on this page's own server, as `?model=` names it. */
function modelFolder(): URL {
  const folder = folderAddress(address.get("model") || DEFAULT_MODEL, document.baseURI);
  if (folder.origin !== location.origin) {
    throw new WorkerProblem({
      message: `The address names a model on another server (${folder.host}).`,
      remedy: "For your safety this page loads models only from the server it came from.",
    });
  }
  return folder;
}

/** Loads the model, without the GPU if it has brought a worker down; whether it can be used then. */
async function load(reload: boolean, withoutGpu: string | null = null): Promise<boolean> {
  files = undefined;
  gpuAvoided = withoutGpu !== null;
  composer.setReady(false);
  composer.say("Loading the model…");
  welcome.loading();
  notice.clear();
  try {
    const folder = modelFolder();
    modelKey = folder.pathname;
    const options = {
      reload,
      device: settings.device,
      known: readExperience(modelKey),
      withoutGpu,
      kernels: address.get("kernels"),
    };
    const loaded = await client.load(folder, options, {
      progress: (done, total) => welcome.progress(done, total),
      preparing: () => welcome.preparing(),
    });
    modelName = folderName(folder) || "model";
    files = loaded;
    settings = readSettings(withModelDefaults(loaded.defaults, loaded.info.context));
    nameModel();
    devicePanel.showStartup(loaded.startup);
    panel.offer(loaded.info);
    panel.show(settings);
    settings = panel.read();
    about.show(modelName, loaded);
    welcome.ready(modelName, loaded);
    if (!loaded.confirmed) {
      notice.show("The server could not say whether its model has changed: this is the copy that this browser kept.");
    }
    composer.setReady(true);
    composer.say(answering ? "Answering…" : "Ready");
    return true;
  } catch (error) {
    const problem = problemOf(error);
    const ending = error instanceof WorkerProblem ? error.ending : undefined;
    if (ending === "gpu-failed" || ending === "left") {
      return load(reload, ending === "gpu-failed" ? problem.message : null);
    }
    welcome.failed(problem);
    welcome.show(true);
    composer.say("The model could not be loaded.");
    byId("retry", HTMLButtonElement).focus();
    return false;
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

/** Ends the answer after the token at hand. */
function stop(): void {
  stopping = answering;
  client.stop();
}

/** Gets the answer to `history`, once more from the start where a worker ended over it. */
async function write(history: Message[], options: GenerationOptions, view: AnswerView): Promise<AnswerStats> {
  try {
    return await client.ask(history, options, (token) => view.push(token));
  } catch (error) {
    if (!(error instanceof WorkerProblem && error.ending !== undefined && (await loading))) {
      throw error;
    }
  }
  view.clear();
  const again = client.ask(history, options, (token) => view.push(token));
  if (stopping) {
    client.stop();
  }
  return again;
}

async function ask(text: string): Promise<void> {
  if (files === undefined || answering) {
    return;
  }
  answering = true;
  stopping = false;
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
    const stats = await write(history, toOptions(settings, files.defaults), view);
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
      // What was written is not lost: it can be shortened, or sent again.
      composer.giveBack(text);
    }
  } finally {
    answering = false;
    log.removeAttribute("aria-busy");
    composer.setAnswering(false);
    if (files !== undefined) {
      composer.say(ending);
    }
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
