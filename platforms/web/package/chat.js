// Chats: turns in a tree.
import { abortReason, failed } from "./errors.js";
import { known, samplingOf, SAMPLING, string, whole, WRITING, writingOf } from "./options.js";
import { asyncDispose } from "./session.js";

const forgotten = new FinalizationRegistry(({ link, chat }) => link.tell("freeChat", { chat }));
const TEMPLATE = ["id", "systemPrefix", "systemSuffix", "userPrefix", "userSuffix", "modelPrefix", "modelSuffix"];
const ROLES = ["system", "user", "model"];
export const CHAT = ["template", "saved", "stateBudgetBytes", "onProgress", ...SAMPLING];

export function chatArguments(options) {
  known("chat", options, CHAT);
  const template = options.template ?? {};
  known("template", template, TEMPLATE);
  return {
    template: TEMPLATE.map((name) => (template[name] === undefined ? null : string(`template.${name}`, template[name]))),
    sampling: samplingOf(options),
    saved: options.saved,
    stateBudgetBytes: options.stateBudgetBytes === undefined ? -1 : whole("stateBudgetBytes", options.stateBudgetBytes, 0),
  };
}

/** A turn that the model writes, piece by piece. The writing runs ahead of who reads. */
export class ChatReply {
  #start;
  #signal;
  #pieces = [];
  #wake = null;
  #run = null;
  #over = false;
  #failure = null;
  #control = new AbortController();
  #left = false;
  end = null;
  tokens = 0;
  turn = null;

  constructor(seed, signal, start) {
    this.seed = seed;
    this.#signal = signal;
    this.#start = start;
  }

  get done() {
    return this.#over;
  }

  #begin() {
    const follow = () => this.#control.abort(abortReason(this.#signal));
    this.#signal?.addEventListener("abort", follow);
    const onText = (text) => {
      this.#pieces.push(text);
      this.#wake?.();
    };
    this.#run = this.#start(onText, this.#control.signal)
      .then(
        ({ turn, end, tokens }) => Object.assign(this, { turn, end, tokens }),
        (error) => {
          this.#failure = error;
          if (this.#control.signal.aborted) this.end = "closed";
        },
      )
      .finally(() => {
        this.#signal?.removeEventListener("abort", follow);
        this.#over = true;
        this.#wake?.();
      });
  }

  async next() {
    if (this.#signal?.aborted && this.#run === null) throw abortReason(this.#signal);
    if (this.#left) return { value: undefined, done: true };
    if (this.#run === null) this.#begin();
    while (this.#pieces.length === 0 && !this.#over) {
      await new Promise((resolve) => (this.#wake = resolve));
      this.#wake = null;
    }
    if (this.#pieces.length > 0) return { value: this.#pieces.splice(0).join(""), done: false };
    const failure = this.#failure;
    this.#failure = null;
    this.#left = true;
    if (failure) throw failure;
    if (this.#signal?.aborted && this.end === "closed") throw abortReason(this.#signal);
    return { value: undefined, done: true };
  }
  async return(value) {
    await this.close();
    return { value, done: true };
  }
  async text() {
    let all = "";
    for await (const piece of this) all += piece;
    return all;
  }
  async close() {
    this.#left = true;
    if (this.#run === null) {
      this.#over = true;
      this.end = "closed";
      return;
    }
    if (!this.#over) this.#control.abort();
    await this.#run;
  }
  [Symbol.asyncIterator]() {
    return this;
  }
  async [asyncDispose]() {
    await this.close();
  }
}

export class Chat {
  #link;
  #id;
  #closed = false;
  #onProgress;

  constructor(model, link, id, seed, onProgress) {
    this.model = model;
    this.seed = seed;
    this.#link = link;
    this.#id = id;
    this.#onProgress = onProgress;
    forgotten.register(this, { link, chat: id }, this);
  }

  #call(op, args = {}, { signal, onText, undo = true } = {}) {
    if (this.#closed) throw failed("closed", "the chat was closed");
    const onEvent = ({ text, progress }) => {
      if (text !== undefined) onText?.(text);
      if (progress !== undefined) this.#onProgress?.(progress);
    };
    return this.#link.call(op, { chat: this.#id, ...args }, { signal, onEvent, undo, beacon: signal !== undefined });
  }

  async append(text, { role = "user", signal } = {}) {
    return this.#call("chatAppend", { text: string("text", text), role: this.#role(role) }, { signal });
  }
  async branch(after, text, { role = "user", signal } = {}) {
    const args = { after: whole("after", after, 0), text: string("text", text), role: this.#role(role) };
    return this.#call("chatBranch", args, { signal });
  }
  async edit(turn, text, { signal } = {}) {
    return this.#call("chatEdit", { turn: whole("turn", turn, 1), text: string("text", text) }, { signal });
  }
  #role(role) {
    if (ROLES.includes(role)) return role;
    throw failed("invalid_argument", `role is ${JSON.stringify(role)}, must be one of ${ROLES.join(", ")}`);
  }

  reply(text = null, options = {}) {
    if (text !== null && typeof text === "object") [text, options] = [null, text];
    return this.#reply(text === null ? null : string("text", text), false, options);
  }
  retry(options = {}) {
    return this.#reply(null, true, options);
  }
  #reply(text, again, given) {
    known("reply", given, [...SAMPLING, ...WRITING, "signal", "onAbort"]);
    const { onAbort = "keep", signal } = given;
    if (onAbort !== "keep" && onAbort !== "undo") {
      throw failed("invalid_argument", `onAbort is ${JSON.stringify(onAbort)}, must be "keep" or "undo"`);
    }
    const newSampling = SAMPLING.some((name) => given[name] !== undefined);
    const undo = onAbort === "undo";
    const options = { ...samplingOf(given), ...writingOf(given), undo };
    const seed = newSampling ? options.seed : this.seed;
    return new ChatReply(seed, signal, async (onText, stop) =>
      this.#call("chatReply", { text, again, options, newSampling }, { signal: stop, onText, undo }));
  }

  async undo() {
    return this.#call("chatUndo");
  }
  async switchTo(turn) {
    return this.#call("chatSwitch", { turn: whole("turn", turn, 0) });
  }
  async remove(turn) {
    await this.#call("chatRemove", { turn: whole("turn", turn, 1) });
  }
  async turns() {
    return (await this.#call("chatTurns")).turns;
  }
  async state() {
    const state = await this.#call("chatTurns");
    const byId = new Map(state.turns.map((turn) => [turn.id, turn]));
    const path = [];
    for (let id = state.current; id !== 0; id = byId.get(id).parent) path.unshift(byId.get(id));
    return { ...state, path };
  }
  async save() {
    return this.#call("chatSave");
  }

  async close() {
    if (this.#closed) return;
    this.#closed = true;
    forgotten.unregister(this);
    if (!this.#link.closed) await this.#link.call("freeChat", { chat: this.#id });
  }
  async [asyncDispose]() {
    await this.close();
  }
}
