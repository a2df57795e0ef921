// The package in Firefox: a page of its own calls it and sends what came of it to the server.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { serve } from "../serve.mjs";
import { programOf, root, test } from "./harness.mjs";

const program = programOf("MOKA_FIREFOX", ["firefox-esr", "firefox"]);

const PAGE = `<!doctype html><title>Moka</title><script type="module">
  const tell = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
  try {
    const { load } = await import("/moka/index.js");
    const model = await load("/stories.moka");
    const again = await load("/stories.moka");
    await again.close();
    const session = await model.session();
    const text = await session.reply("Once upon a time", { temperature: 0, maxTokens: 20 }).text();
    const chat = await model.chat();
    const control = new AbortController();
    const reply = chat.reply("The fox", { maxTokens: 1000000, loopTokens: 0, stopAtEnd: false, signal: control.signal });
    let begin, aborted;
    setTimeout(() => { begin = performance.now(); control.abort(); }, 300);
    try { for await (const piece of reply); } catch (error) { aborted = error.name; }
    const ms = performance.now() - begin;
    await model.close();
    await tell({
      text, aborted, ms, end: reply.end, stored: model.cached, isolated: crossOriginIsolated,
      threads: model.info.threads, cores: navigator.hardwareConcurrency, agent: navigator.userAgent,
    });
  } catch (error) { await tell({ error: String(error) }); }
</script>`;

async function inFirefox(isolated) {
  let done;
  const result = new Promise((resolve) => (done = resolve));
  const before = (request, response, path) => {
    if (path === "/") {
      response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
    } else if (path === "/result") {
      let body = "";
      request.setEncoding("utf8").on("data", (data) => (body += data)).on("end", () => done(JSON.parse(body)));
      response.writeHead(204).end();
    } else {
      return false;
    }
    return true;
  };
  const server = await serve(`${root}/build/web/page`, { isolated, before });
  const profile = mkdtempSync(`${tmpdir()}/moka-firefox-`);
  const browser = spawn(program, ["--headless", "--no-remote", "--profile", profile, server.url], {
    stdio: "ignore", env: { ...process.env, HOME: profile },
  });
  const ended = new Promise((resolve) => browser.on("exit", resolve).on("error", resolve));
  const timer = setTimeout(() => done({ error: "no word from Firefox in three minutes" }), 180000);
  try {
    return await Promise.race([result, ended.then((code) => ({ error: `Firefox ended with ${code}` }))]);
  } finally {
    clearTimeout(timer);
    browser.kill();
    await ended;
    await server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

for (const isolated of [true, false]) {
  test(`writing, storing and aborting, page ${isolated ? "isolated" : "not isolated"}`, async () => {
    const { error, text, aborted, ms, end, stored, isolated: is, threads, cores, agent } = await inFirefox(isolated);
    assert.equal(error, undefined);
    assert.ok(text.length > 20);
    assert.deepEqual([aborted, end, stored, is], ["AbortError", "closed", true, isolated]);
    assert.equal(threads, isolated ? Math.min(4, cores) : 1);
    assert.ok(ms < 2000, `stopped after ${ms} ms`);
    console.log(`[web] ${agent}`);
  }, { skip: program ? null : "there is no Firefox; MOKA_FIREFOX can name one" });
}
