// What the C library in moka.wasm asks the system for, in a worker: clocks and random numbers it gets, files
// it does not, by ENOSYS.
import { failed } from "./errors.js";

/** Imports for the module; `memory()` gives its memory, `own` has what the caller brings. */
export function importsOf(module, memory, own) {
  const view = () => new DataView(memory().buffer);
  const known = {
    ...own,
    env: { emscripten_notify_memory_growth: () => {}, ...own.env },
    wasi_snapshot_preview1: {
      clock_time_get: (clock, precision, at) => {
        // Threads compare their times, and performance.now() counts from the start of each worker.
        const ms = clock === 0 ? Date.now() : performance.timeOrigin + performance.now();
        view().setBigUint64(at, BigInt(Math.round(ms * 1e6)), true);
        return 0;
      },
      random_get: (at, size) => {
        // Not straight into memory, which crypto refuses when threads share it.
        const bytes = globalThis.crypto.getRandomValues(new Uint8Array(size));
        new Uint8Array(memory().buffer, at, size).set(bytes);
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
    const nothing = kind === "function" ? () => (from === "env" ? -52 : 52) : undefined;
    (imports[from] ??= {})[name] = known[from]?.[name] ?? nothing;
  }
  return imports;
}
