/// <reference lib="esnext.disposable" />
// Moka for browsers and Node. README.md has the manual; the comments here say what each call promises.

/** What a MokaError is about. The first eleven are the statuses of the C interface (moka.h). */
export type MokaErrorCode =
  | "invalid_argument"
  | "not_found"
  | "io"
  | "corrupt"
  | "version"
  | "unsupported"
  | "out_of_memory"
  | "out_of_range"
  | "failed_precondition"
  | "cancelled"
  | "internal"
  /** Used after close(). */
  | "closed"
  /** In use by a reply that has not ended, or by a call. */
  | "busy"
  /** The bytes are not those that `integrity` names. */
  | "integrity";

export declare class MokaError extends Error {
  readonly name: "MokaError";
  /** To branch on; the message is for people. */
  readonly code: MokaErrorCode;
}

export interface LoadProgress {
  /** What goes on: "download", "cache" (from the browser's cache), "read" (a file or Blob), "open". */
  stage: "download" | "cache" | "read" | "open";
  /** Bytes so far. */
  loaded: number;
  /** Bytes in all; 0 while that is not known. */
  total: number;
}

export interface LoadOptions {
  onProgress?: (progress: LoadProgress) => void;
  /** Digests of the file as in Subresource Integrity, "sha256-..." (or sha384, sha512); one must match. */
  integrity?: string;
  /** Ends the loading; load() then rejects with the signal's reason. */
  signal?: AbortSignal;
  /**
   * true, the default: models from http(s) are kept in Cache Storage, where there is one, once they are
   * whole and verified. "reload": download anew and replace. false: neither look nor keep.
   */
  cache?: boolean | "reload";
  /** false: do not compare the data with the checksums in the file. Default true. */
  check?: boolean;
  /**
   * Threads to compute with, 1 to 256; results are the same bits. Default: one per core, at most 4, in Node
   * and on pages that are cross-origin isolated, and 1 elsewhere. More than 1 where that cannot be:
   * unsupported.
   */
  threads?: number;
  /**
   * Where moka.wasm is, if it is not beside the package's modules, or moka-threads.wasm for more than one
   * thread; `threads` is then 1 by default.
   */
  wasmUrl?: string | URL;
}

/**
 * Loads a model into a worker of its own: from a URL, a Blob or File, bytes (which are copied), or in Node
 * a path. What is damaged or broken off is neither opened nor cached.
 *
 * MokaError: not_found, io, corrupt, integrity, version, unsupported (also: no SIMD, or no threads here),
 * out_of_memory.
 */
export declare function load(source: string | URL | Blob | Uint8Array | ArrayBuffer, options?: LoadOptions): Promise<Model>;

/** Removes a model from the cache; whether it was there. */
export declare function forget(url: string | URL): Promise<boolean>;

export interface ModelInfo {
  readonly name: string;
  readonly architecture: string;
  /** Kernels in use: "wasm". */
  readonly kernels: string;
  /** Threads in use. */
  readonly threads: number;
  readonly input: "tokens" | "values" | "pixels";
  readonly output: "hidden" | "language" | "classifier" | "pair" | "regression" | "embedding";
  /** Whether sessions read it. */
  readonly causal: boolean;
  readonly readsMemory: boolean;
  readonly hasTokenizer: boolean;
  readonly width: number;
  readonly layers: number;
  readonly vocabSize: number;
  readonly features: number;
  readonly outputs: number;
  readonly classes: number;
  readonly beginToken: number | null;
  readonly endToken: number | null;
  readonly unknownToken: number | null;
  /** What a text begins with: beginToken, else endToken. */
  readonly startToken: number | null;
  readonly parameters: number;
  readonly weightBytes: number;
  /** Of a session, whatever it has read, and what each token adds to it. */
  readonly stateBytes: number;
  readonly stateBytesPerToken: number;
  /** Tokens that a session may read; 0: no limit. */
  readonly positionLimit: number;
}

export declare class Model implements AsyncDisposable {
  private constructor();
  readonly info: ModelInfo;
  /** Size of the file. */
  readonly bytes: number;
  /** Whether it is in the browser's cache now. */
  readonly cached: boolean;
  readonly closed: boolean;
  /** A sequence at its start. failed_precondition: the model sees ahead, and has no sessions. */
  session(): Promise<Session>;
  /** unsupported: no causal language model with a tokenizer. */
  chat(options?: ChatOptions): Promise<Chat>;
  /** The ids of a text; `special`: special tokens that stand in it are themselves. */
  encode(text: string, options?: { special?: boolean }): Promise<Int32Array>;
  decode(tokens: Int32Array | number[]): Promise<string>;
  /** Bytes that WebAssembly has taken, and of these the file's. */
  memory(): Promise<{ total: number; model: number }>;
  /** Ends the workers and gives all memory back; what runs rejects with "closed". Can be repeated. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** How tokens are drawn; what the model recommends, for what is not given. */
export interface Sampling {
  /** 0: always the likeliest token. */
  temperature?: number;
  /** Draw from the k likeliest; 0: from all. */
  topK?: number;
  /** From the fewest that have this probability together; 1: from all. */
  topP?: number;
  /** From those at least so many times as likely as the likeliest. */
  minP?: number;
  /**
   * Above 1: makes the last repeatWindow tokens less likely; of a session those of this reply and its prompt,
   * of a chat those of all turns.
   */
  repeatPenalty?: number;
  repeatWindow?: number;
  /** 0 to 2^53 - 1; a random one if it is not given. */
  seed?: number;
}

/** When writing ends. */
export interface Writing {
  /** At least 1; default 512. */
  maxTokens?: number;
  /** Milliseconds of writing; 0, the default: no limit. */
  maxMs?: number;
  /** Texts that end it and are not given out, at most 64. */
  stop?: string | string[];
  /** Whether the model's begin and end tokens end it; default true. */
  stopAtEnd?: boolean;
  /** So many tokens that are one cycle, again and again, end it; 0: never; default 256. */
  loopTokens?: number;
}

/** Why writing ended; "closed": by you. */
export type End = "stop_token" | "stop_text" | "tokens" | "time" | "closed" | "position" | "loop";

export interface ReplyOptions extends Sampling, Writing {
  signal?: AbortSignal;
}

/**
 * Text of a session, piece by piece, in whole characters. Nothing happens before the first piece is asked
 * for, and between two pieces nothing does. To leave the loop, or close(), ends the writing behind the last
 * piece. When the signal aborts, the iteration rejects with its reason; a prompt that was being read is
 * undone, what was written before stays.
 */
export declare class Reply implements AsyncIterableIterator<string>, AsyncDisposable {
  private constructor();
  /** What the draws began from: with it the same text is written again. */
  readonly seed: number;
  /** null until it ends, and after an error. */
  readonly end: End | null;
  /** Tokens that were written. */
  readonly tokens: number;
  readonly done: boolean;
  next(): Promise<IteratorResult<string>>;
  return(value?: unknown): Promise<IteratorResult<string>>;
  /** All of it, or all that is left; a little faster than the loop. */
  text(): Promise<string>;
  close(): Promise<void>;
  [Symbol.asyncIterator](): this;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * One sequence, with a state of constant size. A call that fails or is aborted leaves it as it was. While a
 * reply is open, calls that would change the session reject with "busy".
 */
export declare class Session implements AsyncDisposable {
  private constructor();
  readonly model: Model;
  /** Tokens that it has read. */
  readonly position: number;
  /**
   * Reads on. A text at the start begins with info.startToken; ids are read as they are. When the signal
   * aborts, within 128 tokens, nothing of it was read.
   */
  append(input: string | Int32Array | number[], options?: { signal?: AbortSignal }): Promise<void>;
  /** Reads the prompt, if there is one, and lets the model write. */
  reply(prompt?: string | Int32Array | number[], options?: ReplyOptions): Reply;
  reply(options: ReplyOptions): Reply;
  /** Scores of the next token, [info.outputs]; empty where nothing was read. */
  logits(): Promise<Float32Array>;
  /** An independent copy; costs a copy of the state. */
  fork(): Promise<Session>;
  /** The session as bytes, which are the same on every platform of Moka. */
  save(): Promise<Uint8Array>;
  /** What save() gave. corrupt; failed_precondition: of another model. */
  restore(bytes: Uint8Array): Promise<void>;
  /** To where nothing was read. */
  reset(): Promise<void>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What stands around the text of a turn of each role. A saved chat is opened with an equal id only. */
export interface Template {
  id?: string;
  systemPrefix?: string;
  systemSuffix?: string;
  userPrefix?: string;
  userSuffix?: string;
  modelPrefix?: string;
  modelSuffix?: string;
}

export interface ChatOptions extends Sampling {
  template?: Template;
  /** What Chat.save() gave: the chat goes on there, with the sampling of its own. */
  saved?: Uint8Array;
  /** Memory for states at the ends of turns, which make going back free; default 64 MiB. */
  stateBudgetBytes?: number;
  /** Told of reading; `again`: what was read before and let go. */
  onProgress?: (progress: { done: number; total: number; again: boolean }) => void;
}

export type Role = "system" | "user" | "model";

export interface Turn {
  readonly id: number;
  /** 0 for first turns. */
  readonly parent: number;
  readonly role: Role;
  readonly text: string;
  /** Why the model's writing ended; null of a text that was given. */
  readonly end: End | null;
  /** Whether going there has nothing to read again. */
  readonly kept: boolean;
  /** Tokens from the start of the chat to the end of this turn. */
  readonly position: number;
  /** Tokens of the text. */
  readonly tokens: number;
}

export interface ChatReplyOptions extends ReplyOptions {
  /** What becomes of a turn whose signal aborts: "keep", the default, with what it has; or "undo". */
  onAbort?: "keep" | "undo";
}

/**
 * A turn of the model, piece by piece. The writing runs ahead of who reads: leaving the loop ends it behind
 * the token that it is at, and the turn has all that was written. With a signal the iteration rejects with
 * its reason, behind the pieces that are there; onAbort says whether the turn stays.
 */
export declare class ChatReply implements AsyncIterableIterator<string>, AsyncDisposable {
  private constructor();
  readonly seed: number;
  readonly end: End | null;
  readonly tokens: number;
  /** The id of the turn, at the end; null when there is none. */
  readonly turn: number | null;
  readonly done: boolean;
  next(): Promise<IteratorResult<string>>;
  return(value?: unknown): Promise<IteratorResult<string>>;
  text(): Promise<string>;
  close(): Promise<void>;
  [Symbol.asyncIterator](): this;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Turns of a tree: what is undone, edited or written anew stays in it until it is removed. */
export declare class Chat implements AsyncDisposable {
  private constructor();
  readonly model: Model;
  readonly seed: number;
  /** Puts a turn behind the current one: its id. */
  append(text: string, options?: { role?: Role; signal?: AbortSignal }): Promise<number>;
  /** Behind any turn, or behind 0, the start. */
  branch(after: number, text: string, options?: { role?: Role; signal?: AbortSignal }): Promise<number>;
  /** Beside a turn, with its role. */
  edit(turn: number, text: string, options?: { signal?: AbortSignal }): Promise<number>;
  /** Appends the user's text, if there is one, and lets the model write the next turn. */
  reply(text?: string | null, options?: ChatReplyOptions): ChatReply;
  reply(options: ChatReplyOptions): ChatReply;
  /** The same beside the current turn, when the model wrote that one. */
  retry(options?: ChatReplyOptions): ChatReply;
  /** To the parent of the current turn: its id. failed_precondition at the start. */
  undo(): Promise<number>;
  /** To any turn, or to 0, the start. not_found. */
  switchTo(turn: number): Promise<number>;
  /** Removes a turn and all that follow it; failed_precondition when the current one is of them. */
  remove(turn: number): Promise<void>;
  /** All of the tree, ids rising. */
  turns(): Promise<Turn[]>;
  /** The same, with the current turn's id and the turns that lead to it. */
  state(): Promise<{ turns: Turn[]; current: number; path: Turn[]; keptStateBytes: number }>;
  /** All turns, and the states of some. */
  save(): Promise<Uint8Array>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
