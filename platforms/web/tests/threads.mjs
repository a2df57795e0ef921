// Threads: the same bits as one, what they are refused for, and that none is left.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { command, fails, moka, project, root, STORIES, test } from "./harness.mjs";

const folder = `${project}/node_modules/moka-web`;
const run = promisify(execFile);
const LONG = "The king had three sons, and the youngest of them went out into the world. ".repeat(12);
const needsCommand = { skip: command ? null : "MOKA_COMMAND names no command" };

async function inScratch(use) {
  const scratch = await mkdtemp(`${tmpdir()}/moka-web-`);
  try {
    return await use(scratch);
  } finally {
    await rm(scratch, { recursive: true });
  }
}

// What a model computes: a text drawn with a seed, a session with all its numbers, the last scores.
async function worksOf(source, threads) {
  const model = await moka.load(source, { threads });
  assert.equal(model.info.threads, threads);
  const session = await model.session();
  await session.append(LONG.slice(0, 200));
  const text = await session.reply("Once upon a time", { seed: 5, temperature: 0.8, maxTokens: 60, stopAtEnd: false }).text();
  await session.append(LONG);
  const works = { text, saved: await session.save(), logits: await session.logits() };
  await model.close();
  return works;
}

test("two, three and more threads give the bits of one", async () => {
  const one = await worksOf(STORIES, 1);
  assert.ok(one.text.length > 60);
  for (const threads of [2, 3, 5]) assert.deepEqual(await worksOf(STORIES, threads), one);
});

test("with matrices of float32, too", async () => {
  await inScratch(async (scratch) => {
    const path = `${scratch}/float.moka`;
    await run(command, ["convert", `${root}/tests/data/hf/macchiato_gelu_offset`, "--weights", "f32", "-o", path]);
    const one = await worksOf(path, 1);
    for (const threads of [2, 4]) assert.deepEqual(await worksOf(path, threads), one);
  });
}, needsCommand);

test("the likeliest words are those of the command", async () => {
  const prompt = "Once upon a time there was a king";
  const args = ["run", STORIES, "-p", prompt, "--temperature", "0", "-n", "40", "--threads", "2"];
  const { stdout } = await run(command, args);
  const model = await moka.load(STORIES, { threads: 2 });
  const session = await model.session();
  const text = await session.reply(prompt, { temperature: 0, maxTokens: 40, stopAtEnd: false }).text();
  assert.equal((prompt + text).trimEnd(), stdout.trimEnd());
  await model.close();
}, needsCommand);

test("as many as there are cores, at most four, when nothing is said", async () => {
  const model = await moka.load(STORIES);
  assert.equal(model.info.threads, Math.min(4, availableParallelism()));
  await model.close();
});

test("wrong numbers are told", async () => {
  for (const threads of [0, -1, 1.5, 257, "2", null]) {
    await fails(() => moka.load(STORIES, { threads }), "invalid_argument", /threads is .*must be a whole number, 1 to 256/);
  }
});

test("a module of one's own is for one thread unless it is said, and has to fit", async () => {
  const [one, more] = ["moka.wasm", "moka-threads.wasm"].map((name) => pathToFileURL(`${folder}/${name}`));
  for (const [wasmUrl, threads, used] of [[one, undefined, 1], [one, 1, 1], [more, undefined, 1], [more, 1, 1], [more, 2, 2]]) {
    const model = await moka.load(STORIES, { wasmUrl, threads });
    assert.equal(model.info.threads, used);
    await model.close();
  }
  await fails(() => moka.load(STORIES, { wasmUrl: one, threads: 2 }), "invalid_argument", /moka-threads\.wasm/);
});

// Of this process, where the system tells; they end some time after close().
const threadsHere = async () => (await readdir("/proc/self/task")).length;
async function until(least) {
  for (let i = 0; i < 200 && (await threadsHere()) > least; ++i) await new Promise((done) => setTimeout(done, 50));
  return threadsHere();
}

test("close() ends all of them, whatever they do", async () => {
  await (await moka.load(STORIES, { threads: 5 })).close(); // Node keeps some threads of its own from now on
  await new Promise((done) => setTimeout(done, 500));
  const before = await threadsHere();
  for (const busy of [false, true]) {
    const model = await moka.load(STORIES, { threads: 5 });
    const session = await model.session();
    await session.append(LONG);
    assert.ok((await threadsHere()) >= before + 5);
    const reading = busy ? session.append(LONG.repeat(20)).catch((error) => error.code) : "closed";
    if (busy) await new Promise((done) => setTimeout(done, 100));
    await model.close();
    assert.equal(await reading, "closed");
    assert.ok((await until(before)) <= before);
  }
  // Loads that fail when the threads are there already, or do not come so far.
  await fails(() => moka.load(new Uint8Array(1000), { threads: 5 }), "corrupt");
  const control = new AbortController();
  const loading = moka.load(STORIES, { threads: 5, signal: control.signal, onProgress: ({ stage }) => stage === "open" && control.abort() });
  await loading.then((model) => model.close(), (error) => assert.equal(error.name, "AbortError"));
  assert.ok((await until(before)) <= before);
}, { skip: process.platform === "linux" ? null : "threads are counted on Linux" });

// Runs a program of its own that loads the package in `source` and then does `rest`: what it prints.
async function printedBy(scratch, source, rest) {
  await writeFile(`${scratch}/program.mjs`, `
    import { load } from ${JSON.stringify(pathToFileURL(`${source}/index.js`).href)};
    const model = await load(${JSON.stringify(STORIES)}, { threads: 4 });
    const session = await model.session();
    ${rest}`);
  return (await run(process.execPath, [`${scratch}/program.mjs`], { timeout: 60000 })).stdout;
}

test("a process ends by itself, with the model closed and not", async () => {
  await inScratch(async (scratch) => {
    for (const close of ["", "await model.close();"]) {
      const rest = `console.log((await session.reply("The fox", { maxTokens: 20 }).text()).length > 10); ${close}`;
      assert.equal(await printedBy(scratch, folder, rest), "true\n");
    }
  });
});

test("a thread that fails ends the model with an error", async () => {
  await inScratch(async (scratch) => {
    await cp(folder, `${scratch}/moka-web`, { recursive: true });
    await writeFile(`${scratch}/moka-web/helper.js`, `
      import { parentPort } from "node:worker_threads";
      parentPort.on("message", () => setTimeout(() => { throw new Error("it broke"); }, 300));`);
    const printed = await printedBy(scratch, `${scratch}/moka-web`, `
      try {
        for (;;) await session.append("Once upon a time there was a king. ".repeat(20));
      } catch (error) { console.log(error.code, error.message, model.closed); }`);
    assert.equal(printed, "internal a thread ended: it broke true\n");
  });
});
