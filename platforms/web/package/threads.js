// Threads: how many there are to be, the memory that they share, and what starts and ends them. A thread of
// the C library runs in a helper, a worker that the page makes: the worker with the engine stands still while
// it computes, and could not make one then.
import { failed } from "./errors.js";
import { whole } from "./options.js";

const isNode = typeof process === "object" && process.versions?.node !== undefined;
const MOST = 256; // of the runtime
const DEFAULT_MOST = 4; // more rarely pays for one sequence

/** Whether memory can be shared between workers: in Node, and on pages that are cross-origin isolated. */
export function canShare() {
  return typeof SharedArrayBuffer === "function" && (isNode || globalThis.crossOriginIsolated === true);
}

async function coresHere() {
  if (!isNode) return globalThis.navigator?.hardwareConcurrency ?? 1;
  const os = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:os");
  return os.availableParallelism?.() ?? os.cpus().length;
}

/** Threads to compute with, by what was asked for, and cores that there are. */
export async function threadsOf(wanted, ownModule) {
  const cores = Math.max(1, await coresHere());
  if (wanted === undefined) {
    return { threads: canShare() && !ownModule ? Math.min(cores, DEFAULT_MOST) : 1, cores };
  }
  const threads = whole("threads", wanted, 1, MOST);
  if (threads > 1 && !canShare()) {
    throw failed("unsupported",
      `threads is ${threads}, but more than one needs a page that is cross-origin isolated: the page and the package's ` +
      `files must come with the headers "Cross-Origin-Opener-Policy: same-origin" and "Cross-Origin-Embedder-Policy: require-corp"`);
  }
  return { threads, cores };
}

// ---- in the worker -----------------------------------------------------------------------------------

// What platforms/web/CMakeLists.txt says of moka-threads.wasm: 16 MB at first, 4 GB at most. Memory that is
// shared may take room for all of it at once, so where that is too much, it is less.
const FIRST_PAGES = 256;
const MOST_PAGES = 65536;

export function sharedMemory() {
  for (let maximum = MOST_PAGES; ; maximum /= 2) {
    try {
      return new WebAssembly.Memory({ initial: FIRST_PAGES, maximum, shared: true });
    } catch (error) {
      if (maximum > 16 * FIRST_PAGES) continue;
      throw failed("out_of_memory", `there is no memory to share between threads: ${error.message}`);
    }
  }
}

/** Whether a compiled module is moka-threads.wasm. */
export const isShared = (module) => WebAssembly.Module.imports(module).some(({ kind }) => kind === "memory");

const STACK_BYTES = 1 << 20; // of each thread; as much as the main one has
const AGAIN = 6; // EAGAIN

// Where a helper hears of its thread, numbers of 32 bits: first whether it is to run one. It is 1 from when
// the engine says so until the helper has left all of the thread's memory.
const RUNS = 0;
const SLOT_NUMBERS = 6; // and thread, routine, argument, top and bottom of the stack

export class Threads {
  #helpers = []; // {slot, thread}; 0: it is free

  /** `start(helper)` makes a helper, of what helper.js takes. */
  constructor(module, memory, cores, start) {
    Object.assign(this, { module, memory, cores, start });
  }

  /** What the C library imports, of the thread that has the engine. */
  imports(wasm) {
    return {
      memory: this.memory,
      hardware_concurrency: () => this.cores,
      emscripten_num_logical_cores: () => this.cores,
      emscripten_check_blocking_allowed: () => {}, // in a worker it is
      _emscripten_init_main_thread_js: (thread) => {
        wasm()._emscripten_thread_init(thread, 0, 1, 1, STACK_BYTES, 0);
        wasm()._emscripten_tls_init();
      },
      __pthread_create_js: (thread, attributes, routine, argument) =>
        this.#run(thread, routine, argument, wasm().web_thread_stack(thread, 1), wasm().web_thread_stack(thread, 0)),
      // Of a thread that has been joined.
      _emscripten_thread_cleanup: (thread) => {
        const helper = this.#helpers.find((one) => one.thread === thread);
        while (Atomics.load(helper.slot, RUNS) === 1) Atomics.wait(helper.slot, RUNS, 1);
        helper.thread = 0;
        wasm()._emscripten_thread_free_data(thread);
      },
    };
  }

  #run(thread, ...rest) {
    let helper = this.#helpers.find((one) => one.thread === 0);
    const isNew = helper === undefined;
    if (isNew) {
      helper = { slot: new Int32Array(new SharedArrayBuffer(4 * SLOT_NUMBERS)), thread: 0 };
      this.#helpers.push(helper);
    }
    helper.thread = thread;
    helper.slot.set([thread, ...rest], 1);
    Atomics.store(helper.slot, RUNS, 1);
    if (isNew) this.start({ module: this.module, memory: this.memory, slot: helper.slot });
    else Atomics.notify(helper.slot, RUNS);
    return 0;
  }
}

// ---- in a helper -------------------------------------------------------------------------------------

/** What the C library imports, of a thread: threads start no threads. */
export const importsOfHelper = (memory) => ({
  memory, __pthread_create_js: () => AGAIN, emscripten_check_blocking_allowed: () => {},
});

/** Runs the threads that a helper is given, one after the other; ends with the worker. */
export function runThreads(wasm, slot) {
  for (;;) {
    while (Atomics.load(slot, RUNS) === 0) Atomics.wait(slot, RUNS, 0);
    const [, thread, routine, argument, top, bottom] = slot;
    wasm.emscripten_stack_set_limits(top, bottom);
    wasm._emscripten_stack_restore(top);
    wasm._emscripten_thread_init(thread, 0, 0, 1, 0, 0);
    wasm._emscripten_tls_init();
    wasm._emscripten_thread_exit(wasm.__indirect_function_table.get(routine >>> 0)(argument));
    Atomics.store(slot, RUNS, 0);
    Atomics.notify(slot, RUNS);
  }
}
