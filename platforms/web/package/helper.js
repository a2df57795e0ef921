// A helper: a worker that runs threads of the engine, in an instance of its own on the same memory. What
// fails here ends the worker, of which the page hears.
import { importsOf } from "./system.js";
import { importsOfHelper, runThreads } from "./threads.js";

const isNode = typeof process === "object" && process.versions?.node !== undefined;

function onMessage({ module, memory, slot }) {
  const imports = importsOf(module, () => memory, { env: importsOfHelper(memory) });
  runThreads(new WebAssembly.Instance(module, imports).exports, slot);
}

if (isNode) {
  const { parentPort } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads");
  globalThis.crypto ??= (await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:crypto")).webcrypto;
  parentPort.on("message", onMessage);
} else {
  globalThis.onmessage = (event) => onMessage(event.data);
}
