// Sessions, and what they write.
import { abortReason, failed } from "./errors.js";
import { known, inputOf, samplingOf, SAMPLING, WRITING, writingOf } from "./options.js";

// A page that forgets to close one gives its memory back all the same, some time later.
const forgotten = new FinalizationRegistry(({ link, session }) => link.tell("freeSession", { session }));

export const asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose");

/** Text of a session, piece by piece. */
export class Reply {
  #session;
  #link;
  #args;
  #signal;
  #id = null;
  #state = "new"; // then "open", and "over"
  end = null;
  tokens = 0;

  constructor(session, link, args, signal) {
    this.#session = session;
    this.#link = link;
    this.#args = args;
    this.#signal = signal;
    this.seed = args.options.seed;
  }

  get done() {
    return this.#state === "over";
  }

  async #start() {
    const place = await this.#session._alone(() => this.#link.call("reply", this.#args, { signal: this.#signal }), this);
    this.#id = place.reply;
    this.#session._at(place.position);
    this.#state = "open";
  }

  #finish(end) {
    this.#state = "over";
    this.end = end;
    this.#session._release(this);
    if (this.#id !== null) this.#link.tell("endReply", { reply: this.#id });
    this.#id = null;
  }

  // The next text, after at least so many milliseconds of writing; null: there is none.
  async #next(ms) {
    try {
      while (this.#state !== "over") {
        if (this.#signal?.aborted) throw abortReason(this.#signal);
        if (this.#state === "new") await this.#start();
        const { text, end, tokens, position } = await this.#link.call("write", { reply: this.#id, ms }, {
          signal: this.#signal, undo: false,
        });
        this.tokens = tokens;
        this.#session._at(position);
        if (end !== null) this.#finish(end);
        if (text !== "") return text;
      }
      return null;
    } catch (error) {
      this.#finish(this.#signal?.aborted ? "closed" : null);
      throw error;
    }
  }

  async next() {
    const value = await this.#next(0);
    return value === null ? { value: undefined, done: true } : { value, done: false };
  }
  async return(value) {
    await this.close();
    return { value, done: true };
  }
  async text() {
    let all = "";
    for (let piece = await this.#next(50); piece !== null; piece = await this.#next(50)) all += piece;
    return all;
  }
  async close() {
    if (this.#state !== "over") this.#finish("closed");
  }
  [Symbol.asyncIterator]() {
    return this;
  }
  async [asyncDispose]() {
    await this.close();
  }
}

export class Session {
  #link;
  #id;
  #closed = false;
  #user = null; // the reply or call that has it
  #position;

  constructor(model, link, { session, position }) {
    this.model = model;
    this.#link = link;
    this.#id = session;
    this.#position = position;
    forgotten.register(this, { link, session }, this);
  }

  get position() {
    return this.#position;
  }
  _at(position) {
    this.#position = position;
  }
  _release(user) {
    if (this.#user === user) this.#user = null;
  }
  #open() {
    if (this.#closed) throw failed("closed", "the session was closed");
  }
  // Runs a call that changes the session; a reply that calls it holds the session from then on.
  async _alone(call, user = Symbol("call")) {
    this.#open();
    if (this.#user !== null) {
      throw failed("busy", "the session is in use by a reply or call that has not ended: read it to its end, or close() it");
    }
    this.#user = user;
    try {
      return await call();
    } catch (error) {
      this._release(user);
      throw error;
    } finally {
      if (typeof user === "symbol") this._release(user);
    }
  }

  async append(input, options = {}) {
    known("append", options, ["signal"]);
    const args = { session: this.#id, input: inputOf("input", input) };
    this.#position = (await this._alone(() => this.#link.call("append", args, options))).position;
  }

  reply(prompt = "", options = {}) {
    if (prompt !== null && typeof prompt === "object" && !Array.isArray(prompt) && !ArrayBuffer.isView(prompt)) {
      [prompt, options] = ["", prompt];
    }
    known("reply", options, [...SAMPLING, ...WRITING, "signal"]);
    this.#open();
    const how = { ...samplingOf(options), ...writingOf(options) };
    const args = { session: this.#id, input: inputOf("prompt", prompt), options: how };
    return new Reply(this, this.#link, args, options.signal);
  }

  async logits() {
    this.#open();
    return this.#link.call("logits", { session: this.#id });
  }
  async fork() {
    this.#open();
    return new Session(this.model, this.#link, await this.#link.call("fork", { session: this.#id }));
  }
  async save() {
    this.#open();
    return this.#link.call("save", { session: this.#id });
  }
  async restore(bytes) {
    if (!(bytes instanceof Uint8Array)) throw failed("invalid_argument", "restore() takes the Uint8Array that save() gave");
    const call = () => this.#link.call("restore", { session: this.#id, bytes });
    this.#position = (await this._alone(call)).position;
  }
  async reset() {
    this.#position = (await this._alone(() => this.#link.call("reset", { session: this.#id }))).position;
  }

  async close() {
    if (this.#closed) return;
    this.#closed = true;
    forgotten.unregister(this);
    if (this.#user instanceof Reply) await this.#user.close();
    if (!this.#link.closed) await this.#link.call("freeSession", { session: this.#id });
  }
  async [asyncDispose]() {
    await this.close();
  }
}
