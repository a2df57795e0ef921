// moka.wasm in JavaScript's hands: instance, memory, texts and errors. One model per engine. Runs inside
// the worker.
import { failed } from "./errors.js";
import { importsOf } from "./system.js";
import { isShared, sharedMemory, Threads } from "./threads.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// A module with one instruction of SIMD, and one that catches an exception: what moka.wasm needs.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const EXCEPTIONS = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 8, 1, 6, 0, 6, 64, 25, 11, 11];

/** Throws where this engine cannot run moka.wasm. */
export function checkSupport() {
  if (typeof WebAssembly !== "object") {
    throw failed("unsupported", "there is no WebAssembly here, which Moka needs");
  }
  for (const [name, bytes] of [["SIMD", SIMD], ["exceptions", EXCEPTIONS]]) {
    if (WebAssembly.validate(new Uint8Array(bytes))) continue;
    throw failed("unsupported",
      `WebAssembly has no ${name} here, which Moka needs: Chrome 95, Firefox 100, Safari 16.4, Node 18 and later have it`);
  }
}

// Numbers of web_info(), in its order.
const INFO = [
  "input", "output", "causal", "readsMemory", "hasTokenizer", "width", "layers", "vocabSize", "features",
  "outputs", "classes", "beginToken", "endToken", "unknownToken", "parameters", "weightBytes",
  "stateBytes", "stateBytesPerToken", "positionLimit", "threads",
];
const SWITCHES = new Set(["causal", "readsMemory", "hasTokenizer"]);
const INPUTS = ["tokens", "values", "pixels"];
const OUTPUTS = ["hidden", "language", "classifier", "pair", "regression", "embedding"];

export class Engine {
  // Set for the time of a call that reports.
  onText = null;
  onProgress = null;
  onChecked = null;

  /**
   * `module`: a compiled moka.wasm, or moka-threads.wasm; `startHelper(helper)` makes a worker for a thread,
   * of what helper.js takes.
   */
  static async create(module, { threads = 1, cores = 1, startHelper } = {}) {
    const engine = new Engine();
    engine.threads = threads;
    engine.shared = isShared(module);
    if (threads > 1 && !engine.shared) {
      throw failed("invalid_argument", "wasmUrl is of moka.wasm, which has one thread; for more it must be of moka-threads.wasm");
    }
    if (engine.shared && typeof SharedArrayBuffer !== "function") {
      throw failed("unsupported", "wasmUrl is of moka-threads.wasm, which needs a page that is cross-origin isolated");
    }
    if (engine.shared) engine.memory = sharedMemory();
    const helpers = engine.shared ? new Threads(module, engine.memory, cores, startHelper) : null;
    const imports = importsOf(module, () => engine.memory, {
      moka: engine.#callbacks(), env: helpers?.imports(() => engine.wasm),
    });
    const instance = await WebAssembly.instantiate(module, imports);
    engine.wasm = instance.exports;
    engine.memory ??= instance.exports.memory;
    engine.wasm._initialize?.();
    return engine;
  }

  #callbacks() {
    return {
      text: (at, size) => this.#tell(() => this.onText?.(this.text(at, size))),
      progress: (done, total, again) => this.#tell(() => this.onProgress?.(done, total, again !== 0)),
      checked: (share) => this.#tell(() => this.onChecked?.(share)),
    };
  }

  // An exception must not pass through WebAssembly: it is kept and thrown behind the call, which ends.
  #tell(call) {
    try {
      return call() ? 1 : 0;
    } catch (error) {
      this.#thrown ??= { error };
      return 1;
    }
  }
  #thrown = null;

  // ---- memory -------------------------------------------------------------------------------------

  /** `size` bytes at `at`; valid until the next call, which may move the memory. */
  bytes(at, size) {
    return new Uint8Array(this.memory.buffer, at >>> 0, size);
  }
  /** The same for TextDecoder and crypto, which refuse memory that threads share: then a copy. */
  plain(at, size) {
    return this.shared ? this.bytes(at, size).slice() : this.bytes(at, size);
  }
  text(at, size) {
    return size === 0 ? "" : decoder.decode(this.plain(at, size));
  }
  #terminated(at) {
    const begin = at >>> 0;
    return this.text(begin, new Uint8Array(this.memory.buffer).indexOf(0, begin) - begin);
  }
  alloc(size) {
    const at = this.wasm.web_alloc(Math.max(1, size)) >>> 0;
    if (at === 0) throw failed("out_of_memory", `no memory for ${size} bytes; WebAssembly has 4 GB at most`);
    return at;
  }
  free(at) {
    this.wasm.web_free(at);
  }

  /** Calls `use(address, size)` with a copy of the bytes in memory. */
  withBytes(bytes, use) {
    const at = this.alloc(bytes.byteLength);
    try {
      this.bytes(at, bytes.byteLength).set(bytes);
      return use(at, bytes.byteLength);
    } finally {
      this.free(at);
    }
  }
  withText(text, use) {
    return this.withBytes(encoder.encode(text), use);
  }
  withTokens(tokens, use) {
    const ids = Int32Array.from(tokens);
    return this.withBytes(new Uint8Array(ids.buffer), (at) => use(at, ids.length));
  }
  /** Addresses of texts that end with NUL; null stays 0. */
  withTexts(texts, use) {
    const at = [];
    try {
      for (const text of texts) {
        if (text === null || text === undefined) {
          at.push(0);
          continue;
        }
        const bytes = encoder.encode(text);
        if (bytes.includes(0)) throw failed("invalid_argument", "a text has a NUL in it");
        const place = this.alloc(bytes.length + 1);
        at.push(place);
        this.bytes(place, bytes.length + 1).set([...bytes, 0]);
      }
      return use(at);
    } finally {
      for (const place of at) if (place !== 0) this.free(place);
    }
  }

  // ---- results ------------------------------------------------------------------------------------

  error() {
    const code = this.#terminated(this.wasm.web_code_name(this.wasm.web_code()));
    return failed(code, this.#terminated(this.wasm.web_message()));
  }
  #check() {
    const thrown = this.#thrown;
    this.#thrown = null;
    if (thrown) throw thrown.error;
  }
  /** Throws unless the code says that all went well. */
  done(code) {
    this.#check();
    if (code !== 0) throw this.error();
  }
  /** Throws unless it is a handle. */
  made(handle) {
    this.#check();
    if (handle === 0) throw this.error();
    return handle;
  }
  /** A copy of what the last call gave out. */
  out() {
    return this.bytes(this.wasm.web_out(), this.wasm.web_out_size()).slice();
  }
  outText() {
    return this.text(this.wasm.web_out(), this.wasm.web_out_size());
  }

  // ---- the model ----------------------------------------------------------------------------------

  open(at, size, check) {
    this.done(this.wasm.web_open(at, size, check ? 1 : 0, this.threads));
    const info = {};
    INFO.forEach((name, which) => {
      const value = this.wasm.web_info(which);
      info[name] = SWITCHES.has(name) ? value !== 0 : value;
    });
    info.input = INPUTS[info.input];
    info.output = OUTPUTS[info.output];
    for (const name of ["beginToken", "endToken", "unknownToken"]) {
      if (info[name] < 0) info[name] = null;
    }
    info.startToken = info.beginToken ?? info.endToken;
    ["name", "architecture", "kernels"].forEach((name, which) => {
      info[name] = this.#terminated(this.wasm.web_info_text(which));
    });
    this.info = info;
    return info;
  }

  encode(text, special = false) {
    this.withText(text, (at, size) => this.done(this.wasm.web_encode(at, size, special ? 1 : 0)));
    return new Int32Array(this.out().buffer);
  }
  decode(tokens) {
    this.withTokens(tokens, (at, count) => this.done(this.wasm.web_decode(at, count)));
    return this.outText();
  }

  setSampling(sampling) {
    const { temperature, topK, topP, minP, repeatPenalty, repeatWindow, seed } = sampling;
    const or = (value) => value ?? NaN;
    this.wasm.web_sampling(or(temperature), or(topK), or(topP), or(minP), or(repeatPenalty), or(repeatWindow), seed);
  }
}
