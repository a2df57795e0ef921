// moka.wasm in JavaScript's hands: instance, memory, texts and errors. One model per engine. Runs inside
// the worker.
import { failed } from "./errors.js";

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
  "stateBytes", "stateBytesPerToken", "positionLimit",
];
const SWITCHES = new Set(["causal", "readsMemory", "hasTokenizer"]);
const INPUTS = ["tokens", "values", "pixels"];
const OUTPUTS = ["hidden", "language", "classifier", "pair", "regression", "embedding"];

export class Engine {
  // Set for the time of a call that reports.
  onText = null;
  onProgress = null;
  onChecked = null;

  /** `module`: a compiled moka.wasm. */
  static async create(module) {
    const engine = new Engine();
    const instance = await WebAssembly.instantiate(module, engine.#imports(module));
    engine.wasm = instance.exports;
    engine.memory = instance.exports.memory;
    engine.wasm._initialize?.();
    return engine;
  }

  // The C library asks the system for a few things that are not here: clocks and random numbers it gets,
  // files it does not, by ENOSYS.
  #imports(module) {
    const view = () => new DataView(this.memory.buffer);
    const known = {
      moka: {
        text: (at, size) => this.#tell(() => this.onText?.(this.text(at, size))),
        progress: (done, total, again) => this.#tell(() => this.onProgress?.(done, total, again !== 0)),
        checked: (share) => this.#tell(() => this.onChecked?.(share)),
      },
      env: { emscripten_notify_memory_growth: () => {} },
      wasi_snapshot_preview1: {
        clock_time_get: (clock, precision, at) => {
          const ms = clock === 0 ? Date.now() : performance.now();
          view().setBigUint64(at, BigInt(Math.round(ms * 1e6)), true);
          return 0;
        },
        random_get: (at, size) => {
          globalThis.crypto.getRandomValues(new Uint8Array(this.memory.buffer, at, size));
          return 0;
        },
        environ_sizes_get: (count, size) => {
          view().setUint32(count, 0, true);
          view().setUint32(size, 0, true);
          return 0;
        },
        environ_get: () => 0,
        fd_close: () => 0,
        proc_exit: (code) => {
          throw failed("internal", `moka.wasm ended with ${code}`);
        },
      },
    };
    const imports = {};
    for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
      if (kind !== "function") continue;
      (imports[from] ??= {})[name] = known[from]?.[name] ?? (() => (from === "env" ? -52 : 52));
    }
    return imports;
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
  text(at, size) {
    return size === 0 ? "" : decoder.decode(this.bytes(at, size));
  }
  #terminated(at) {
    const bytes = new Uint8Array(this.memory.buffer);
    return decoder.decode(bytes.subarray(at >>> 0, bytes.indexOf(0, at >>> 0)));
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
    this.done(this.wasm.web_open(at, size, check ? 1 : 0));
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
