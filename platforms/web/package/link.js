// The page's end of a worker and of its helpers: calls, their answers, and the end of all.
import { abortReason, failed } from "./errors.js";
import { canShare } from "./threads.js";

const isNode = typeof process === "object" && process.versions?.node !== undefined;

// All of it written out, not put together: bundlers look for it.
const URLS = { worker: new URL("./worker.js", import.meta.url), helper: new URL("./helper.js", import.meta.url) };
const MAKE = {
  worker: () => new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "moka" }),
  helper: () => new Worker(new URL("./helper.js", import.meta.url), { type: "module", name: "moka-thread" }),
};

// A worker of this name, `on(message)` and `onError(text)`; the same for browsers and Node.
async function startWorker(name, on, onError) {
  if (!isNode) {
    const worker = MAKE[name]();
    worker.onmessage = (event) => on(event.data);
    worker.onerror = (event) => {
      event.preventDefault?.();
      onError(event.message ?? `${URLS[name]} cannot be loaded`);
    };
    return { post: (message) => worker.postMessage(message), end: () => worker.terminate(), hold: () => {} };
  }
  const { Worker: NodeWorker } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads");
  const worker = new NodeWorker(URLS[name]);
  worker.on("message", on);
  worker.on("error", (error) => onError(error.message));
  return {
    post: (message) => worker.postMessage(message),
    end: () => worker.terminate(),
    // A process may end while nothing runs.
    hold: (busy) => (busy ? worker.ref() : worker.unref()),
  };
}

export class Link {
  #calls = new Map();
  #last = 0;
  #closed = null;
  #helpers = [];
  flags = canShare() ? new Int32Array(new SharedArrayBuffer(8)) : null;

  static async start() {
    const link = new Link();
    link.worker = await startWorker(
      "worker",
      (message) => link.#on(message),
      (text) => link.#end(failed("internal", `the worker ended: ${text}`)),
    );
    link.worker.hold(false);
    return link;
  }

  /**
   * Does a call in the worker. `onEvent` gets what it tells meanwhile. When `signal` aborts, the call is
   * ended; with `undo` false it may keep what it has and then succeeds. `beacon`: it lets no messages in.
   */
  call(op, args = {}, { signal, onEvent, undo = true, beacon = false } = {}) {
    if (this.#closed) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      const call = { onEvent, beacon: null, stop: null };
      const url = beacon && !this.flags && !isNode ? URL.createObjectURL(new Blob(["."])) : null;
      call.stop = () => {
        if (this.flags) {
          Atomics.store(this.flags, 1, undo ? 1 : 0);
          Atomics.store(this.flags, 0, id);
        }
        if (url) URL.revokeObjectURL(url);
        this.worker.post({ stop: id, undo });
      };
      const finish = (settle) => (value) => {
        signal?.removeEventListener("abort", call.stop);
        if (url) URL.revokeObjectURL(url);
        this.#calls.delete(id);
        if (this.#calls.size === 0) this.worker.hold(false);
        settle(value);
      };
      call.resolve = finish(resolve);
      // Who aborted hears the reason that they gave.
      call.reject = finish((error) =>
        reject(error.code === "cancelled" && signal?.aborted ? abortReason(signal) : error));
      this.#calls.set(id, call);
      signal?.addEventListener("abort", call.stop);
      this.worker.hold(true);
      this.worker.post({ id, op, args, beacon: url });
    });
  }

  /** For what nobody waits for. */
  tell(op, args) {
    if (!this.#closed) this.call(op, args).catch(() => {});
  }

  // A worker for a thread. One that fails leaves the others waiting for it, so it ends all of them.
  async #help(message) {
    const fails = (text) => this.#end(failed("internal", `a thread ended: ${text}`));
    try {
      const helper = await startWorker("helper", () => {}, fails);
      helper.hold(false);
      if (this.#closed) return helper.end();
      this.#helpers.push(helper);
      helper.post(message);
    } catch (error) {
      fails(error.message);
    }
  }

  #on({ id, ok, error, event, helper }) {
    if (helper !== undefined) {
      this.#help(helper);
      return;
    }
    const call = this.#calls.get(id);
    if (!call) return;
    if (event !== undefined) {
      call.onEvent?.(event);
    } else if (error) {
      call.reject(failed(error.code, error.message));
      if (error.broken) this.#end(failed("internal", `WebAssembly failed: ${error.message}`));
    } else {
      call.resolve(ok);
    }
  }

  #end(reason) {
    if (this.#closed) return;
    this.#closed = reason;
    for (const call of [...this.#calls.values()]) call.reject(reason);
    this.worker.end();
    for (const helper of this.#helpers.splice(0)) helper.end();
  }

  get closed() {
    return this.#closed !== null;
  }
  close() {
    this.#end(failed("closed", "the model was closed"));
  }
}
