// The page: which models there are, what can be asked of them, and what was asked.

import { ApiError, listModels, useKey } from "./api.js";
import { $, element } from "./dom.js";
import { classify, fillMask } from "./forms.js";
import { generate, readSettings, showCode } from "./generate.js";
import { hideDetails, Output } from "./output.js";

const MODES = [
  { name: "chat", route: "/v1/chat/completions", title: "Chat", label: "Your message", send: "Send" },
  { name: "completion", route: "/v1/completions", title: "Completion", label: "Text to continue", send: "Generate" },
  { name: "classify", route: "/v1/classify", title: "Classification", label: "Text to classify", send: "Classify" },
  { name: "fill", route: "/v1/fill-mask", title: "Fill a mask", label: "Text with [MASK] in it", send: "Fill" },
];
let models = [];
let mode = null;
let turns = []; // of the conversation: {said, answers}, an answer per model that was asked
let running = null; // the AbortController of the requests in progress

function chosen() {
  const names = [$("model").value];
  if ($("compare").checked) names.push($("other").value);
  return names.map((name) => models.find((model) => model.id === name)).filter(Boolean);
}

function describe(model) {
  const about = model.gristmill;
  const version = about.version ? `version ${about.version}${about.alias ? `, ${about.alias}` : ""}` : about.alias;
  const parts = [about.kind, version, about.engine && `engine ${about.engine}`, `context ${about.context_length} tokens`, `weights ${about.digest.slice(0, 12)}`];
  return `${model.id}: ${parts.filter(Boolean).join(", ")}`;
}

async function loadModels() {
  $("problem").hidden = true;
  try {
    models = await listModels();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) {
      $("key-problem").hidden = $("key").value === "";
      $("key-dialog").showModal();
    } else showProblem(error.message);
    return;
  }
  for (const select of [$("model"), $("other")]) {
    select.replaceChildren(...models.map((model) => element("option", { value: model.id }, model.id)));
  }
  if (models.length > 1) $("other").selectedIndex = 1;
  showModels();
}

function showProblem(message) {
  $("problem").textContent = message;
  $("problem").hidden = false;
}

// Shows what the chosen models can do.
function showModels() {
  const own = chosen();
  $("second").hidden = !$("compare").checked;
  $("about").textContent = own.map(describe).join(" · ");
  const possible = MODES.filter(({ route }) => own.every((model) => model.gristmill.routes.includes(route)));
  const before = mode?.name;
  mode = possible.find(({ name }) => name === before) ?? possible[0] ?? null;
  $("modes").replaceChildren(
    element("legend", {}, "Task"),
    ...possible.map((item) => {
      const radio = element("input", { type: "radio", name: "mode", value: item.name, checked: item === mode });
      radio.addEventListener("change", () => { mode = item; showMode(); });
      return element("label", { class: "inline" }, radio, item.title);
    }),
  );
  const none = "These models have no task in common that this page knows.";
  if (possible.length) $("problem").hidden = true;
  else showProblem(own.length > 1 ? none : `This page knows no task of ${own[0]?.id ?? "this server"}: use its API.`);
  const context = Math.min(...own.map((model) => model.gristmill.context_length));
  $("max_tokens").max = context;
  if ($("max_tokens").valueAsNumber > context / 2) $("max_tokens").value = Math.max(1, Math.floor(context / 2));
  const silent = own.filter((model) => !model.gristmill.sources);
  $("sources-label").hidden = silent.length === own.length;
  $("no-sources").hidden = !silent.length;
  $("no-sources").textContent = silent.map((model) => `No sources for ${model.id}: ${model.gristmill.sources_error}.`).join(" ");
  showMode();
}

function showMode() {
  const writes = mode?.name === "chat" || mode?.name === "completion";
  $("generation").hidden = !writes;
  $("system-label").hidden = mode?.name !== "chat";
  $("turns").hidden = mode?.name !== "chat";
  $("clear").hidden = mode?.name !== "chat" || !turns.length;
  $("input-label").textContent = mode?.label ?? "Text";
  $("send").textContent = mode?.send ?? "Send";
  $("send").disabled = mode === null || running !== null;
  $("ask").classList.toggle("conversation", mode?.name === "chat");
  $("input").rows = mode?.name === "chat" ? 2 : 4;
  $("results").replaceChildren();
  $("code").hidden = true;
}

function messages(slot, said) {
  const list = [];
  if ($("system").value.trim()) list.push({ role: "system", content: $("system").value });
  for (const turn of turns) {
    list.push({ role: "user", content: turn.said });
    list.push({ role: "assistant", content: turn.answers[slot] ?? turn.answers[0] });
  }
  return [...list, { role: "user", content: said }];
}

// Each of these shows the answers of some models to the text, and returns when they are complete.
const ASK = {
  async completion(own, text, signal) {
    const outputs = own.map((model) => new Output(model));
    for (const output of outputs) output.body.append(element("span", { class: "prompt" }, text));
    $("results").replaceChildren(...outputs.map((output) => output.node));
    const bodies = own.map((model) => ({ ...readSettings(model, false), prompt: text }));
    showCode(mode.route, bodies[0]);
    await Promise.all(outputs.map((output, slot) => generate(output, mode.route, bodies[slot], signal)));
  },

  async chat(own, text, signal) {
    const outputs = own.map((model) => new Output(model));
    const answers = element("div", { class: "answers" }, ...outputs.map((output) => output.node));
    const said = element("p", { class: "said" }, text);
    said.dataset.role = "You";
    const node = element("div", { class: "turn" }, said, answers);
    atEnd = true; // who sends a message wants to see its answer
    $("turns").append(node);
    const bodies = own.map((model, slot) => ({ ...readSettings(model, true), messages: messages(slot, text) }));
    showCode(mode.route, bodies[0]);
    $("input").value = "";
    const texts = await Promise.all(outputs.map((output, slot) => generate(output, mode.route, bodies[slot], signal)));
    if (texts.every((answer) => answer !== null)) turns.push({ said: text, answers: texts });
    else $("input").value = text; // it is not part of the conversation, and can be sent again
    $("clear").hidden = false;
  },

  async classify(own, text, signal) {
    await fillForm(own.map((model) => classify(model, text, signal)));
  },

  async fill(own, text, signal) {
    await fillForm(own.map((model) => fillMask(model, text, signal)));
  },
};

async function fillForm(answers) {
  $("results").replaceChildren(...(await Promise.all(answers)));
}

async function ask(event) {
  event.preventDefault();
  const own = chosen();
  if (running || !own.length || mode === null) return;
  if (!$("controls").checkValidity()) $("sampling").open = true;
  if (!$("controls").reportValidity()) return;
  const text = $("input").value;
  if (!text && mode.name !== "completion") return;
  running = new AbortController();
  $("send").disabled = true;
  $("halt").disabled = false;
  $("status").textContent = "The model answers.";
  try {
    await ASK[mode.name](own, text, running.signal);
    $("status").textContent = "The answer is complete.";
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) $("key-dialog").showModal();
    $("results").replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
  } finally {
    running = null;
    $("send").disabled = false;
    $("halt").disabled = true;
  }
}

function useTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = dark ? "Light" : "Dark";
  $("theme").ariaLabel = dark ? "Use light colors" : "Use dark colors";
}

const systemTheme = window.matchMedia("(prefers-color-scheme: dark)");
useTheme(systemTheme.matches);
systemTheme.addEventListener("change", () => useTheme(systemTheme.matches));
$("theme").addEventListener("click", () => useTheme(document.documentElement.dataset.theme !== "dark"));
$("sampling").open = window.matchMedia("(min-width: 761px)").matches;
$("model").addEventListener("change", showModels);
$("other").addEventListener("change", showModels);
$("compare").addEventListener("change", showModels);
$("ask").addEventListener("submit", ask);
$("controls").addEventListener("submit", (event) => event.preventDefault());
$("halt").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  turns = [];
  $("turns").replaceChildren();
  $("clear").hidden = true;
  $("input").focus();
});
// A conversation that is shown to its end stays so while it grows.
let atEnd = true;
let position = 0;
document.addEventListener("scroll", () => {
  // Who scrolls up leaves the end. A page that only grew before this event has not been left.
  const { scrollTop, clientHeight, scrollHeight } = document.documentElement;
  const below = scrollHeight - clientHeight - scrollTop;
  if (scrollTop < position) atEnd = below <= 1;
  else if (below < 40) atEnd = true;
  position = scrollTop;
});
new ResizeObserver(() => {
  // Not only while a model answers: a request can fail before the page is laid out.
  if (!$("turns").children.length || !atEnd) return;
  window.scrollTo(0, document.documentElement.scrollHeight);
  position = document.documentElement.scrollTop; // what is above it before the next event, its reader scrolled up
}).observe($("turns"));
$("input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (!$("details").hidden) hideDetails();
  else running?.abort();
});
$("key-form").addEventListener("submit", () => {
  useKey($("key").value);
  loadModels();
});
await loadModels();
