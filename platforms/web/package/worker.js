// The worker: it has the engine, and does one call after the other. Calls come as {id, op, args}, answers
// go as {id, ok} or {id, error}, and what a call tells meanwhile as {id, event}. {stop: id} ends a call.
// {helper} asks the page for a worker that runs a thread.
import { Engine } from "./engine.js";
import { MokaError, failed } from "./errors.js";
import { openSource } from "./source.js";
import { LoopGuard, StopTexts } from "./writer.js";

const isNode = typeof process === "object" && process.versions?.node !== undefined;
const CHUNK = 128; // tokens of a prompt between two looks at messages; what the executor takes at once
const POLL_MS = 50;
const TICK_MS = 4; // of writing between two looks at messages
const ROLES = ["system", "user", "model"];
const ENDS = [null, "stop_token", "stop_text", "tokens", "time", "closed", "position", "loop"];

let port;
let engine;
let model;
let flags = null; // shared with the page: what to stop, and whether that undoes it
let beacons = false; // without those: whether the page's URLs can be read here
const things = new Map(); // sessions, replies and chats by their id
let lastThing = 0;

// Lets messages in.
const tick = isNode
  ? () => new Promise((resolve) => setImmediate(resolve))
  : (() => {
      const { port1, port2 } = new MessageChannel();
      const waiting = [];
      port1.onmessage = () => waiting.shift()();
      return () => new Promise((resolve) => (waiting.push(resolve), port2.postMessage(0)));
    })();

// A running call, and whether it is to stop.
class Control {
  constructor({ id, beacon }) {
    this.id = id;
    this.beacon = beacon;
    this.stopped = false;
    this.undo = true;
    this.abort = new AbortController();
    this.polled = 0;
  }
  stop(undo) {
    this.stopped = true;
    this.undo = undo;
    this.abort.abort();
  }
  tell(event) {
    port.postMessage({ id: this.id, event });
  }
  throwIfStopped() {
    if (this.stopped) throw failed("cancelled", "stopped");
  }
  // For calls that let no message in. Without shared memory the page revokes a URL instead, which a
  // request notices that waits for its answer.
  poll() {
    if (this.stopped) return true;
    if (flags) {
      if (Atomics.load(flags, 0) === this.id) this.stop(Atomics.load(flags, 1) !== 0);
      return this.stopped;
    }
    const now = performance.now();
    if (!beacons || !this.beacon || now - this.polled < POLL_MS) return false;
    this.polled = now;
    if (!isReadable(this.beacon)) this.stop(this.undoes);
    return this.stopped;
  }
}

function isReadable(url) {
  try {
    const request = new XMLHttpRequest();
    request.open("GET", url, false);
    request.send();
    return request.status === 200;
  } catch {
    return false;
  }
}

function keep(thing) {
  things.set(++lastThing, thing);
  return lastThing;
}
function find(id, kind) {
  const thing = things.get(id);
  if (thing === undefined) throw failed("closed", `the ${kind} was closed`);
  return thing;
}
const position = (session) => engine.wasm.web_session_position(session.handle);

// ---- sessions --------------------------------------------------------------------------------------

// A text at the start of a language model begins with the token that begins texts.
function tokensOf(session, input) {
  if (typeof input !== "string") return input;
  const tokens = engine.encode(input);
  const { output, startToken } = engine.info;
  if (output !== "language" || startToken === null || position(session) !== 0) return tokens;
  return Int32Array.of(startToken, ...tokens);
}

function append(session, tokens) {
  engine.withTokens(tokens, (at, count) => engine.done(engine.wasm.web_session_append(session.handle, at, count)));
}

// Reads all of them or none.
async function read(session, tokens, control) {
  if (tokens.length <= CHUNK) return append(session, tokens);
  const before = engine.made(engine.wasm.web_session_fork(session.handle));
  let after = before;
  try {
    for (let i = 0; i < tokens.length; i += CHUNK) {
      await tick();
      control.throwIfStopped();
      append(session, tokens.slice(i, i + CHUNK));
    }
  } catch (error) {
    after = session.handle;
    session.handle = before;
    throw error;
  } finally {
    engine.wasm.web_session_free(after);
  }
}

function endReply(reply) {
  if (reply.sampler) engine.wasm.web_sampler_free(reply.sampler);
  if (reply.stream) engine.wasm.web_stream_free(reply.stream);
  reply.sampler = reply.stream = 0;
}

// Whether the writing is over before another token.
function isOver(reply) {
  const limit = engine.info.positionLimit;
  if (reply.tokens >= reply.maxTokens) reply.end = "tokens";
  else if (limit > 0 && position(reply.session) >= limit) reply.end = "position";
  else if (reply.maxMs > 0 && reply.tokens > 0 && performance.now() - reply.begin >= reply.maxMs) reply.end = "time";
  return reply.end !== null;
}

// Writes a token; the text that is certain by it.
function writeToken(reply) {
  const token = engine.wasm.web_write(reply.session.handle, reply.sampler, reply.stream, reply.stopAtEnd ? 1 : 0);
  if (token === -1) throw engine.error();
  if (token === -2) {
    reply.end = "stop_token";
    return "";
  }
  ++reply.tokens;
  const text = reply.stops.push(engine.outText());
  if (reply.stops.stopped) reply.end = "stop_text";
  else if (reply.guard.push(token)) reply.end = "loop";
  return text;
}

// The text that was held back.
function lastText(reply) {
  if (reply.end === "stop_text") return "";
  engine.done(engine.wasm.web_stream_finish(reply.stream));
  return reply.stops.finish() + engine.outText();
}

// ---- chats -----------------------------------------------------------------------------------------

function turnAt(chat, place) {
  engine.done(engine.wasm.web_chat_turn(chat.handle, place));
  const text = engine.outText();
  const [id, parent, role, end, kept, at, tokens] = [0, 1, 2, 3, 4, 5, 6].map((n) => engine.wasm.web_turn(n));
  return { id, parent, role: ROLES[role], end: ENDS[end], kept: kept !== 0, position: at, tokens, text };
}

// `call` does something to the chat; what it reads is told, and it ends when it is to stop.
function onChat(chat, control, call) {
  engine.onProgress = (done, total, again) => {
    control.tell({ progress: { done, total, again } });
    return control.poll();
  };
  try {
    engine.done(call(chat.handle));
  } finally {
    engine.onProgress = null;
  }
  return engine.wasm.web_chat_current(chat.handle);
}

const chatText = (args, control, call) => {
  const chat = find(args.chat, "chat");
  return engine.withText(args.text, (at, size) => onChat(chat, control, (handle) => call(handle, at, size)));
};

// ---- calls -----------------------------------------------------------------------------------------

const calls = {
  async load({ wasm, threads, source, options, shared }, control) {
    flags = shared;
    beacons = Boolean(control.beacon) && isReadable(control.beacon); // a security policy may forbid it
    const startHelper = (helper) => port.postMessage({ helper });
    engine = await Engine.create(await compile(wasm), { ...threads, startHelper });
    model = await openSource(engine, source, options, (progress) => control.tell({ progress }), control.abort.signal);
    return { info: engine.info, bytes: model.size, cached: model.cached };
  },
  memory: () => ({ total: engine.memory.buffer.byteLength, model: model.size }),
  encode: ({ text, special }) => engine.encode(text, special),
  decode: ({ tokens }) => engine.decode(tokens),

  session: () => ({ session: keep({ handle: engine.made(engine.wasm.web_session_new()) }), position: 0 }),
  fork({ session }) {
    const from = find(session, "session");
    const copy = { handle: engine.made(engine.wasm.web_session_fork(from.handle)) };
    return { session: keep(copy), position: position(copy) };
  },
  async append({ session, input }, control) {
    const to = find(session, "session");
    await read(to, tokensOf(to, input), control);
    return { position: position(to) };
  },
  reset({ session }) {
    engine.wasm.web_session_reset(find(session, "session").handle);
    return { position: 0 };
  },
  logits({ session }) {
    engine.done(engine.wasm.web_session_logits(find(session, "session").handle));
    return new Float32Array(engine.out().buffer);
  },
  save({ session }) {
    engine.done(engine.wasm.web_session_save(find(session, "session").handle));
    return engine.out();
  },
  restore({ session, bytes }) {
    const to = find(session, "session");
    engine.withBytes(bytes, (at, size) => engine.done(engine.wasm.web_session_restore(to.handle, at, size)));
    return { position: position(to) };
  },
  freeSession({ session }) {
    const thing = things.get(session);
    if (thing) engine.wasm.web_session_free(thing.handle);
    things.delete(session);
  },

  // Reads the prompt and makes ready to write.
  async reply({ session, input, options }, control) {
    const to = find(session, "session");
    const { output, hasTokenizer, architecture } = engine.info;
    if (output !== "language" || !hasTokenizer) {
      throw failed("unsupported", `the model is a ${architecture}; only language models with a tokenizer write`);
    }
    engine.setSampling(options);
    const reply = {
      session: to, stops: new StopTexts(options.stop), guard: new LoopGuard(options.loopTokens), tokens: 0,
      maxTokens: options.maxTokens, maxMs: options.maxMs, stopAtEnd: options.stopAtEnd, end: null,
      sampler: engine.made(engine.wasm.web_sampler_new()), stream: engine.made(engine.wasm.web_stream_new()),
    };
    try {
      const tokens = input === "" ? [] : tokensOf(to, input);
      if (tokens.length === 0 && position(to) === 0) {
        throw failed("failed_precondition", "nothing was read yet, and there is no prompt");
      }
      if (tokens.length > 0) {
        await read(to, tokens, control);
        engine.withTokens(tokens, (at, n) => engine.done(engine.wasm.web_sampler_accept(reply.sampler, at, n)));
      }
    } catch (error) {
      endReply(reply);
      throw error;
    }
    reply.begin = performance.now();
    return { reply: keep(reply), position: position(to) };
  },
  // Writes for so long, at least until there is text. A token is written or it is not.
  async write({ reply: id, ms }, control) {
    const reply = find(id, "reply");
    let now = performance.now();
    const until = now + ms;
    let [text, ticked] = ["", now];
    try {
      while (!control.stopped && !isOver(reply)) {
        text += writeToken(reply);
        now = performance.now();
        if (reply.end !== null || (text !== "" && now >= until)) break;
        if (now - ticked < TICK_MS) continue;
        ticked = now;
        await tick();
      }
      if (reply.end !== null) text += lastText(reply);
    } catch (error) {
      endReply(reply);
      throw error;
    }
    if (reply.end !== null) endReply(reply);
    return { text, end: reply.end, tokens: reply.tokens, position: position(reply.session) };
  },
  endReply({ reply }) {
    const thing = things.get(reply);
    if (thing) endReply(thing);
    things.delete(reply);
  },

  chat({ template, sampling, saved, stateBudgetBytes }) {
    engine.setSampling(sampling);
    const handle = engine.withTexts(template, (texts) => {
      texts.forEach((at, which) => engine.wasm.web_template(which, at));
      return engine.withBytes(saved ?? new Uint8Array(0), (at, size) =>
        engine.made(engine.wasm.web_chat_new(at, size, stateBudgetBytes)));
    });
    return keep({ handle });
  },
  chatAppend: (args, control) => chatText(args, control, (chat, at, size) =>
    engine.wasm.web_chat_append(chat, ROLES.indexOf(args.role), at, size)),
  chatBranch: (args, control) => chatText(args, control, (chat, at, size) =>
    engine.wasm.web_chat_branch(chat, args.after, ROLES.indexOf(args.role), at, size)),
  chatEdit: (args, control) => chatText(args, control, (chat, at, size) =>
    engine.wasm.web_chat_edit(chat, args.turn, at, size)),
  chatUndo: ({ chat }, control) => onChat(find(chat, "chat"), control, engine.wasm.web_chat_undo),
  chatSwitch: ({ chat, turn }, control) => onChat(find(chat, "chat"), control, (handle) =>
    engine.wasm.web_chat_switch(handle, turn)),
  chatRemove({ chat, turn }) {
    engine.done(engine.wasm.web_chat_remove(find(chat, "chat").handle, turn));
  },
  chatSave({ chat }) {
    engine.done(engine.wasm.web_chat_save(find(chat, "chat").handle));
    return engine.out();
  },
  chatTurns({ chat: id }) {
    const chat = find(id, "chat");
    const turns = [];
    for (let i = 0; i < engine.wasm.web_chat_count(chat.handle); ++i) turns.push(turnAt(chat, i));
    return {
      turns, current: engine.wasm.web_chat_current(chat.handle),
      keptStateBytes: engine.wasm.web_chat_kept_bytes(chat.handle),
    };
  },
  // Writes a whole turn; pieces of text are told as they come.
  chatReply({ chat: id, text, again, options, newSampling }, control) {
    const chat = find(id, "chat");
    control.undoes = options.undo;
    control.poll();
    if (text !== null) {
      chatText({ chat: id, text }, control, (handle, at, size) => engine.wasm.web_chat_append(handle, 1, at, size));
    }
    if (newSampling) engine.setSampling(options);
    engine.onText = (piece) => {
      control.tell({ text: piece });
      if (!control.poll()) return false;
      if (!control.undo) return true;
      engine.wasm.web_chat_cancel(chat.handle);
      return false;
    };
    try {
      const turn = engine.withTexts(options.stop, (stops) => {
        stops.forEach((at, which) => engine.wasm.web_stop(which, at));
        engine.wasm.web_stops(stops.length);
        return onChat(chat, control, (handle) =>
          engine.wasm.web_chat_generate(handle, again ? 1 : 0, newSampling ? 1 : 0, options.maxTokens,
            options.maxMs, options.loopTokens, options.stopAtEnd ? 1 : 0));
      });
      const count = engine.wasm.web_chat_count(chat.handle);
      const { end, tokens } = turnAt(chat, count - 1); // ids rise: the last one is the new one
      return { turn, end, tokens };
    } finally {
      engine.onText = null;
    }
  },
  freeChat({ chat }) {
    const thing = things.get(chat);
    if (thing) engine.wasm.web_chat_free(thing.handle);
    things.delete(chat);
  },
};

async function compile(url) {
  if (isNode && url.startsWith("file:")) {
    const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:fs/promises");
    return WebAssembly.compile(await readFile(new URL(url)));
  }
  const response = await fetch(url);
  if (!response.ok) throw failed("io", `${url} answered with status ${response.status}`);
  if (/^application\/wasm\b/.test(response.headers.get("content-type") ?? "")) {
    return WebAssembly.compileStreaming(response);
  }
  return WebAssembly.compile(await response.arrayBuffer());
}

// ---- messages --------------------------------------------------------------------------------------

// An error as it crosses to the page. After one of WebAssembly itself nothing can be trusted any more.
function errorOf(error, control) {
  if (error instanceof MokaError) return { code: error.code, message: error.message };
  if (control.stopped) return { code: "cancelled", message: "stopped" };
  const broken = error instanceof WebAssembly.RuntimeError;
  return { code: "internal", message: `${error?.name ?? "error"}: ${error?.message ?? error}`, broken };
}

const running = new Map();
let queue = Promise.resolve();

async function run({ id, op, args }, control) {
  let answer;
  try {
    control.throwIfStopped();
    answer = { id, ok: await calls[op](args, control) };
  } catch (error) {
    answer = { id, error: errorOf(error, control) };
  }
  running.delete(id);
  port.postMessage(answer);
}

function onMessage(message) {
  if (message.stop !== undefined) {
    running.get(message.stop)?.stop(message.undo);
    return;
  }
  const control = new Control(message);
  running.set(message.id, control);
  queue = queue.then(() => run(message, control));
}

// The port is there before anything is awaited in a browser, or its first message might be lost.
if (isNode) {
  const { parentPort } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads");
  globalThis.crypto ??= (await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:crypto")).webcrypto;
  port = parentPort;
  parentPort.on("message", onMessage);
} else {
  port = globalThis;
  globalThis.onmessage = (event) => onMessage(event.data);
}
