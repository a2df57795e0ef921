// Moka for browsers and Node: load() gives a Model, which lives in a worker of its own.
import { Chat, chatArguments, ChatReply } from "./chat.js";
import { checkSupport } from "./engine.js";
import { abortReason, failed, MokaError } from "./errors.js";
import { Link } from "./link.js";
import { inputOf, known, string } from "./options.js";
import { asyncDispose, Reply, Session } from "./session.js";
import { forget as forgetUrl, parseIntegrity } from "./source.js";
import { threadsOf } from "./threads.js";

export { Chat, ChatReply, MokaError, Reply, Session };

const isNode = typeof process === "object" && process.versions?.node !== undefined;
const LOAD = ["onProgress", "integrity", "signal", "cache", "check", "threads", "wasmUrl"];

// An address as the worker understands it, which knows nothing of the page's.
function absolute(url) {
  return new URL(url, isNode ? undefined : (globalThis.document?.baseURI ?? globalThis.location?.href)).href;
}

async function sourceOf(source) {
  if (source instanceof Uint8Array) return { bytes: source };
  if (source instanceof ArrayBuffer) return { bytes: new Uint8Array(source) };
  if (typeof Blob === "function" && source instanceof Blob) return { blob: source };
  const text = source instanceof URL ? source.href : source;
  if (typeof text !== "string" || text === "") {
    throw failed("invalid_argument", `a model comes from a URL, a path in Node, a Blob or a Uint8Array, not from ${String(source)}`);
  }
  if (!isNode) return { url: absolute(text) };
  if (/^(https?|blob|data):/i.test(text)) return { url: text };
  if (!/^file:/i.test(text)) return { path: text };
  const { fileURLToPath } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:url");
  return { path: fileURLToPath(text) };
}

// A page that forgets to close one gives its memory back all the same, some time later: sessions and chats
// hold their model.
const forgotten = new FinalizationRegistry((link) => link.close());

export class Model {
  #link;

  constructor(link, { info, bytes, cached }) {
    this.#link = link;
    forgotten.register(this, link);
    this.info = Object.freeze(info);
    this.bytes = bytes;
    this.cached = cached;
  }

  async session() {
    return new Session(this, this.#link, await this.#link.call("session"));
  }
  async chat(options = {}) {
    const args = chatArguments(options);
    return new Chat(this, this.#link, await this.#link.call("chat", args), args.sampling.seed, options.onProgress);
  }
  async encode(text, options = {}) {
    known("encode", options, ["special"]);
    return this.#link.call("encode", { text: string("text", text), special: options.special ?? false });
  }
  async decode(tokens) {
    return this.#link.call("decode", { tokens: inputOf("tokens", tokens) });
  }
  async memory() {
    return this.#link.call("memory");
  }
  get closed() {
    return this.#link.closed;
  }
  async close() {
    this.#link.close();
  }
  async [asyncDispose]() {
    this.#link.close();
  }
}

// Written out for each: bundlers look for it.
function moduleUrl(threads) {
  return (threads > 1 ? new URL("./moka-threads.wasm", import.meta.url) : new URL("./moka.wasm", import.meta.url)).href;
}

export async function load(source, options = {}) {
  known("load", options, LOAD);
  if (options.integrity !== undefined) parseIntegrity(string("integrity", options.integrity));
  if (options.signal?.aborted) throw abortReason(options.signal);
  checkSupport();
  const ownModule = Boolean(options.wasmUrl);
  const threads = await threadsOf(options.threads, ownModule);
  const from = await sourceOf(source);
  const link = await Link.start();
  try {
    const wasm = ownModule ? absolute(options.wasmUrl) : moduleUrl(threads.threads);
    const { integrity, cache, check } = options;
    const args = { wasm, threads, source: from, options: { integrity, cache, check }, shared: link.flags };
    const onEvent = ({ progress }) => options.onProgress?.(progress);
    return new Model(link, await link.call("load", args, { signal: options.signal, onEvent, beacon: true }));
  } catch (error) {
    link.close();
    throw error;
  }
}

export async function forget(url) {
  return forgetUrl(absolute(url));
}
