// The page's end of a worker: calls, their answers, and the end of both.
import { abortReason, failed } from "./errors.js";

const isNode = typeof process === "object" && process.versions?.node !== undefined;

// A worker and `on(message)`, `onError(error)`; the same for browsers and Node.
async function startWorker(on, onError) {
  const url = new URL("./worker.js", import.meta.url);
  if (!isNode) {
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "moka" });
    worker.onmessage = (event) => on(event.data);
    worker.onerror = (event) => {
      event.preventDefault?.();
      onError(event.message ?? `${url} cannot be loaded`);
    };
    return { post: (message) => worker.postMessage(message), end: () => worker.terminate(), hold: () => {} };
  }
  const { Worker: NodeWorker } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads");
  const worker = new NodeWorker(url);
  worker.on("message", on);
  worker.on("error", (error) => onError(error.message));
  return {
    post: (message) => worker.postMessage(message),
    end: () => worker.terminate(),
    // A process may end while nothing runs.
    hold: (busy) => (busy ? worker.ref() : worker.unref()),
  };
}

function sharedFlags() {
  const may = typeof SharedArrayBuffer === "function" && (isNode || globalThis.crossOriginIsolated);
  return may ? new Int32Array(new SharedArrayBuffer(8)) : null;
}

export class Link {
  #calls = new Map();
  #last = 0;
  #closed = null;
  flags = sharedFlags();

  static async start() {
    const link = new Link();
    link.worker = await startWorker(
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

  #on({ id, ok, error, event }) {
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
  }

  get closed() {
    return this.#closed !== null;
  }
  close() {
    this.#end(failed("closed", "the model was closed"));
  }
}
