// Wires the page together. The model lives in a worker; this thread only paints.

import "./style.css";

import { AnswerView, Conversation } from "./chat";
import { formatBytes, formatCount } from "./format";
import type { ModelFiles, Problem } from "./protocol";
import { clearSettings, DEFAULTS, readSettings, type Settings, toOptions, withModelDefaults, writeSettings } from "./settings";
import { AboutPanel, byId, Composer, SettingsPanel, Welcome } from "./ui";
import { WorkerClient, WorkerProblem } from "./worker-client";

const DEFAULT_MODEL = "technical-10m";
/** Within this many pixels of its end, the conversation follows the answer. */
const FOLLOW_DISTANCE = 80;

const client = new WorkerClient();
const log = byId("log", HTMLElement);
const main = byId("main", HTMLElement);
const conversation = new Conversation(log);
let files: ModelFiles | undefined;
let modelName = "";
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
    settings = changed;
    writeSettings(settings);
    conversation.shade(settings.showDepth);
  },
  () => {
    clearSettings();
    settings = files === undefined ? { ...DEFAULTS } : withModelDefaults(files.defaults, files.info.context);
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

void load(false);
composer.focus();

/** The model's folder, on this page's own server: `?model=NAME` is `models/NAME/`, anything with a slash a path. */
function modelFolder(): URL {
  const asked = new URLSearchParams(location.search).get("model") ?? DEFAULT_MODEL;
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

async function load(reload: boolean): Promise<void> {
  files = undefined;
  composer.setReady(false);
  composer.say("Loading the model…");
  welcome.loading();
  try {
    const folder = modelFolder();
    const loaded = await client.load(folder, reload, {
      progress: (done, total) => welcome.progress(done, total),
      preparing: () => welcome.preparing(),
    });
    modelName = decodeURIComponent(folder.pathname.split("/").at(-2) ?? "") || "model";
    files = loaded;
    settings = readSettings(withModelDefaults(loaded.defaults, loaded.info.context));
    const parameters = `${formatCount(loaded.info.parameters, "short")} parameters`;
    byId("model-name", HTMLElement).textContent =
      [modelName, parameters, formatBytes(loaded.info.weight_bytes)].join(" · ");
    panel.offer(loaded.info);
    panel.show(settings);
    settings = panel.read();
    about.show(modelName, loaded);
    welcome.ready(modelName, loaded);
    composer.setReady(true);
    composer.say("Ready");
  } catch (error) {
    const problem = problemOf(error);
    welcome.failed(problem);
    composer.say("The model could not be loaded.");
    byId("retry", HTMLButtonElement).focus();
  }
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
