// The page: a chat of Moka's, shown as one text. Turns of the reader and of the model follow each other;
// every version that was written stays, and can be gone to.
import { load, MokaError } from "./moka/index.js";

const MODEL = new URLSearchParams(location.search).get("model") ?? "stories.moka";
const BEGINNING = "Once upon a time";

const $ = (id) => document.getElementById(id);
const story = $("story");

let model;
let chat;
let turns = []; // of the whole tree
let path = []; // from the first turn to the current one
let writing = null; // an AbortController while the model writes

const say = (text) => ($("status").textContent = text);
const megabytes = (bytes) => (bytes / 1e6).toFixed(1) + " MB";

function complain(error) {
  const problem = $("problem");
  problem.hidden = !error;
  problem.textContent = error ? `That did not work: ${error.message}` : "";
}

// ---- loading ---------------------------------------------------------------------------------------

const STAGES = { download: "Downloading", cache: "From this browser's memory", read: "Reading", open: "Checking" };

function onProgress({ stage, loaded, total }) {
  const bar = $("bar");
  if (total > 0) bar.value = loaded / total;
  else bar.removeAttribute("value");
  const size = total > 0 ? `${megabytes(loaded)} of ${megabytes(total)}` : megabytes(loaded);
  $("loading-text").textContent = `${STAGES[stage]}: ${size}`;
}

async function begin() {
  $("again").hidden = true;
  $("bar").hidden = false;
  const start = performance.now();
  try {
    model = await load(MODEL, { onProgress });
    chat = await model.chat();
  } catch (error) {
    $("bar").hidden = true;
    $("loading-text").textContent = error instanceof MokaError ? error.message : String(error);
    $("again").hidden = false;
    $("again").focus();
    return;
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(2);
  $("loading").hidden = true;
  $("room").hidden = false;
  $("words").focus();
  say(`The model is ready after ${seconds} seconds.`);
  await refresh();
  await figures();
}

// ---- the story -------------------------------------------------------------------------------------

async function refresh() {
  const state = await chat.state();
  turns = state.turns;
  path = state.path;
  show();
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(text, label, action) {
  const made = element("button", "", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.title = label;
  made.disabled = writing !== null;
  made.addEventListener("click", action);
  return made;
}

// Where a version of the story was last: the newest of what follows a turn.
function endOf(id) {
  for (;;) {
    const next = turns.filter((turn) => turn.parent === id).at(-1);
    if (!next) return id;
    id = next.id;
  }
}

const opening = (turn) => turn.text.trim().slice(0, 40);

// Stories that were begun before, on an empty page.
function earlier() {
  const begun = turns.filter(({ parent }) => parent === 0);
  if (begun.length === 0) return [];
  const tools = element("div", "tools");
  tools.append(element("span", "", "Or go back to"));
  for (const turn of begun) tools.append(button(opening(turn), `Go back to: ${opening(turn)}`, () => go(endOf(turn.id))));
  return [tools];
}

// Other versions of a turn, and the way to go on from it.
function toolsOf(turn, place) {
  const versions = turns.filter((other) => other.parent === turn.parent);
  const last = place === path.length - 1;
  if (versions.length < 2 && last) return null;
  const tools = element("div", "tools");
  if (versions.length > 1) {
    const at = versions.findIndex((other) => other.id === turn.id);
    const to = (step) => versions[(at + step + versions.length) % versions.length];
    tools.append(
      button("\u2039", `Version before, part ${place + 1}`, () => go(endOf(to(-1).id))),
      element("span", "", `${at + 1} of ${versions.length}`),
      button("\u203a", `Version after, part ${place + 1}`, () => go(endOf(to(1).id))),
    );
  }
  if (!last) {
    tools.append(button("\u21a9", `Continue from here: ${opening(turn)}`, () => go(turn.id)));
  }
  return tools;
}

function show() {
  const shown = path.flatMap((turn, place) => {
    const tools = toolsOf(turn, place);
    const text = element("p", turn.role, turn.text);
    return tools ? [text, tools] : [text];
  });
  if (shown.length === 0) shown.push(element("p", "empty", "Begin with some words below, or press Write."), ...earlier());
  const focus = document.activeElement;
  const held = story !== focus && story.contains(focus) ? focus.getAttribute("aria-label") : null;
  story.replaceChildren(...shown);
  story.scrollTop = story.scrollHeight;
  if (held !== null) {
    const same = [...story.querySelectorAll("button")].find((tool) => tool.getAttribute("aria-label") === held);
    (same ?? story).focus();
  }
  buttons();
}

function buttons() {
  const busy = writing !== null;
  const current = path[path.length - 1];
  $("write").disabled = busy;
  $("stop").disabled = !busy;
  $("retry").disabled = busy || current?.role !== "model";
  $("undo").disabled = busy || path.length === 0;
  $("fresh").disabled = busy || path.length === 0;
  for (const tool of story.querySelectorAll(".tools button")) tool.disabled = busy;
  story.setAttribute("aria-busy", String(busy));
}

// What changes the chat: one thing at a time.
async function change(words, action) {
  if (writing) return;
  complain(null);
  try {
    await action();
    await refresh();
    say(words);
    if (document.activeElement === document.body) $("write").focus(); // its button is disabled now
  } catch (error) {
    complain(error);
  }
}

const go = (turn) => change("Went there. Write to continue from here.", () => chat.switchTo(turn));

// ---- writing ---------------------------------------------------------------------------------------

// The end of the story stays in sight, unless the reader went up.
function grow(change) {
  const atEnd = story.scrollHeight - story.scrollTop - story.clientHeight < 48;
  change();
  if (atEnd) story.scrollTop = story.scrollHeight;
}

// The model writes; `start(options)` gives the reply, `words` are shown in front of it.
async function write(words, start) {
  if (writing) return;
  writing = new AbortController();
  const before = document.activeElement;
  complain(null);
  if (path.length === 0) story.replaceChildren();
  const text = element("p", "model writing");
  if (words) story.append(element("p", "user", words));
  story.append(text);
  story.scrollTop = story.scrollHeight;
  buttons();
  $("stop").focus();
  say("Writing ...");
  const begun = performance.now();
  let first = 0;
  let reply;
  try {
    reply = start({
      signal: writing.signal, temperature: Number($("temperature").value), maxTokens: Number($("length").value),
    });
    for await (const piece of reply) {
      first ||= performance.now();
      grow(() => text.append(piece));
    }
  } catch (error) {
    if (error.name !== "AbortError") complain(error);
  }
  const stopped = writing.signal.aborted;
  const ended = performance.now();
  writing = null;
  await refresh();
  const speed = reply?.tokens > 1 && ended > first ? (reply.tokens - 1) / ((ended - first) / 1000) : 0;
  // Back to where the reader was; a touch does not bring up the keyboard.
  ($("form").contains(before) && !before.disabled ? before : $("write")).focus();
  $("spoken").textContent = text.textContent;
  await figures(first - begun, speed);
  say(`${stopped ? "Stopped" : "Done"}: ${reply?.tokens ?? 0} tokens.`);
}

async function figures(toFirst, speed) {
  const memory = await model.memory();
  const parts = [`Memory ${megabytes(memory.total)}, of which the model ${megabytes(memory.model)}`];
  const { threads } = model.info;
  const how = threads > 1 ? ` with ${threads} threads` : "";
  if (speed) parts.unshift(`${speed.toFixed(0)} tokens per second${how}`, `first after ${toFirst.toFixed(0)} ms`);
  $("figures").textContent = parts.join(" \u00b7 ");
}

// Words follow on the text before them with a space, unless they bring their own.
function joined(words) {
  const before = path[path.length - 1]?.text ?? "";
  return before === "" || /\s$/.test(before) || /^[\s.,;:!?]/.test(words) ? words : ` ${words}`;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (writing || !chat) return;
  const typed = $("words").value.trimEnd();
  const words = typed || (path.length === 0 ? BEGINNING : "");
  $("words").value = "";
  const given = words ? joined(words) : null;
  write(given, (options) => chat.reply(given, options)).then(() => {
    // Words that were not read are not lost.
    const read = path.some(({ role, text }) => role === "user" && text === given);
    if (typed && !read && $("words").value === "") $("words").value = typed;
  });
});
$("words").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") writing?.abort();
});
$("stop").addEventListener("click", () => writing?.abort());
$("retry").addEventListener("click", () => {
  // The version before leaves the screen, and the new one comes in its place.
  const last = story.querySelector("p.model:last-of-type");
  last.nextElementSibling?.remove(); // its tools
  last.remove();
  write(null, (options) => chat.retry(options));
});
$("undo").addEventListener("click", () => change("Undone.", () => chat.undo()));
$("fresh").addEventListener("click", () => change("A new story. The old one is kept.", () => chat.switchTo(0)));
$("again").addEventListener("click", begin);
for (const name of ["temperature", "length"]) {
  const dial = $(name);
  const tell = () => {
    $(`${name}-value`).textContent = name === "temperature" ? Number(dial.value).toFixed(2) : dial.value;
  };
  dial.addEventListener("input", tell);
  tell();
}

begin();
