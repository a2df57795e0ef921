// Models from files, memory and a server that does not always behave.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { fails, moka, project, root, STORIES, test } from "./harness.mjs";

const bytes = await readFile(STORIES);
const LISTOPS = `${root}/models/listops.moka`;
const digest = (data, name = "sha256") => `${name}-${createHash(name).update(data).digest("base64")}`;

// A server that answers every request with `answer(response)`.
async function serving(answer, use) {
  const server = createServer((request, response) => answer(response, request));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  try {
    return await use(`http://127.0.0.1:${server.address().port}/m.moka`);
  } finally {
    server.closeAllConnections?.();
    await new Promise((done) => server.close(done));
  }
}
const whole = (response) => {
  response.writeHead(200, { "content-length": bytes.length });
  response.end(bytes);
};

test("a path, a file URL, bytes and a Blob give the same model", async () => {
  for (const source of [STORIES, pathToFileURL(STORIES), new Uint8Array(bytes), new Blob([bytes])]) {
    const told = [];
    const model = await moka.load(source, { onProgress: (progress) => told.push(progress) });
    assert.equal(model.bytes, bytes.length);
    assert.equal(model.cached, false);
    assert.equal(model.info.kernels, "wasm");
    assert.equal(model.info.output, "language");
    assert.equal(model.info.causal, true);
    assert.equal(model.info.vocabSize, model.info.outputs);
    assert.deepEqual(told.at(-1), { stage: "open", loaded: bytes.length, total: bytes.length });
    const { total, model: size } = await model.memory();
    assert.ok(total > size && size === bytes.length);
    await model.close();
    assert.equal(model.closed, true);
    await fails(() => model.session(), "closed");
  }
});

test("from a server, with progress", async () => {
  await serving(whole, async (url) => {
    const told = [];
    const model = await moka.load(url, { onProgress: (progress) => told.push(progress), integrity: digest(bytes) });
    await model.close();
    const loaded = told.filter(({ stage }) => stage === "download").map((progress) => progress.loaded);
    assert.equal(loaded[0], 0);
    assert.equal(loaded.at(-1), bytes.length);
    assert.ok(loaded.every((size, i) => i === 0 || size > loaded[i - 1]));
    assert.ok(told.every(({ total }) => total === bytes.length));
  });
});

test("without a length that is known before", async () => {
  const answer = (response) => {
    response.writeHead(200);
    response.write(bytes.subarray(0, 1000));
    response.end(bytes.subarray(1000));
  };
  await serving(answer, async (url) => {
    const model = await moka.load(url);
    assert.equal(model.bytes, bytes.length);
    await model.close();
  });
});

test("integrity: the right digest among others, a wrong one, no digest", async () => {
  const model = await moka.load(STORIES, { integrity: `${digest("x")} ${digest(bytes, "sha512")}` });
  await model.close();
  const error = await fails(() => moka.load(STORIES, { integrity: digest("x", "sha384") }), "integrity");
  assert.ok(error.message.includes(digest(bytes, "sha384")));
  await fails(() => moka.load(STORIES, { integrity: "md5-abc" }), "invalid_argument", /md5-abc/);
});

test("what is broken off, missing, refused or no model", async () => {
  const half = (response) => {
    response.writeHead(200, { "content-length": bytes.length });
    response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy());
  };
  await serving(half, (url) => fails(() => moka.load(url), "io", /broke off/));
  await serving((r) => r.writeHead(404).end(), (url) => fails(() => moka.load(url), "not_found", /404/));
  await serving((r) => r.writeHead(500).end(), (url) => fails(() => moka.load(url), "io", /500/));
  await serving((r) => r.end("<html>"), (url) => fails(() => moka.load(url), "corrupt"));
  await fails(() => moka.load("http://127.0.0.1:9/m.moka"), "io", /cannot be reached/);
  await fails(() => moka.load("/no/such.moka"), "not_found", /no\/such\.moka/);
  await fails(() => moka.load(root), "invalid_argument", /no regular file/);
  await fails(() => moka.load(bytes.subarray(0, bytes.length - 4096)), "corrupt");
  await fails(() => moka.load(42), "invalid_argument", /42/);
  await fails(() => moka.load(STORIES, { progress: () => {} }), "invalid_argument", /"progress"/);
});

test("one flipped bit in the weights is noticed, unless that is not wanted", async () => {
  const damaged = new Uint8Array(bytes);
  damaged[bytes.length - 100000] ^= 4;
  await fails(() => moka.load(damaged), "corrupt");
  const model = await moka.load(damaged, { check: false });
  await model.close();
});

test("a signal ends a download, with its reason", async () => {
  const slow = (response) => {
    response.writeHead(200, { "content-length": bytes.length });
    response.write(bytes.subarray(0, 100000));
  };
  await serving(slow, async (url) => {
    const control = new AbortController();
    const reason = new Error("enough");
    const loading = moka.load(url, {
      signal: control.signal,
      onProgress: ({ loaded }) => loaded > 0 && control.abort(reason),
    });
    await assert.rejects(loading, reason);
  });
  await assert.rejects(moka.load(STORIES, { signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("a classifier is opened, and writes nothing", async () => {
  const model = await moka.load(LISTOPS);
  assert.equal(model.info.output, "classifier");
  const session = model.info.causal ? await model.session() : null;
  if (session) await fails(() => session.reply("[MAX 1 2 ]").text(), "unsupported", /only language models/);
  await fails(() => model.chat(), "unsupported");
  await model.close();
});

test("an engine without SIMD hears what it lacks", async () => {
  const script = `
    import { load } from ${JSON.stringify(pathToFileURL(`${project}/node_modules/moka-web/index.js`).href)};
    try { await load(${JSON.stringify(STORIES)}); } catch (error) { console.log(error.code, error.message); }`;
  const blind = `
    const validate = WebAssembly.validate;
    WebAssembly.validate = (bytes) => !new Uint8Array(bytes).includes(253) && validate(bytes);`;
  const run = promisify(execFile);
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", blind + script]);
  assert.match(stdout, /^unsupported WebAssembly has no SIMD here/);
});
