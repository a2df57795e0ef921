// Package and page in a real browser, with and without memory that the page and its workers share.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { serve } from "../serve.mjs";
import { Browser } from "./cdp.mjs";
import { programOf, root, STORIES, test } from "./harness.mjs";

const program = programOf("MOKA_BROWSER", ["chromium", "chromium-browser", "google-chrome"]);
const skip = program ? null : "there is no Chromium; MOKA_BROWSER can name one";
const folder = `${root}/build/web/page`;
const shots = `${root}/build/web/shots`;
const bytes = readFileSync(STORIES);
const integrity = `sha256-${createHash("sha256").update(bytes).digest("base64")}`;

let browser;
async function onPage(options, use) {
  browser ??= await Browser.start(program);
  const server = await serve(folder, options);
  const page = await browser.page(options);
  try {
    await use(page, server.url);
  } catch (error) {
    await mkdir(shots, { recursive: true });
    await page.screenshot(`${shots}/failed.png`).catch(() => {});
    throw new Error(`${error.message}; the page says ${JSON.stringify(page.errors)}`, { cause: error });
  } finally {
    await page.close();
    await server.close();
  }
}

// A page with nothing on it, from which the package is called.
const empty = { before: (request, response, path) => path === "/empty" && (response.writeHead(200, { "content-type": "text/html" }), response.end("<!doctype html>"), true) };
const call = (page, body) => page.value(`(async () => {
  const { load, forget, MokaError } = await import("/moka/index.js");
  ${body}
})()`);

for (const isolated of [true, false]) {
  const how = isolated ? "isolated" : "not isolated";
  test(`writing and aborting, page ${how}`, async () => {
    await onPage({ isolated, ...empty }, async (page, url) => {
      await page.open(`${url}empty`);
      assert.equal(await page.value("crossOriginIsolated"), isolated);
      const result = await call(page, `
        const model = await load("/stories.moka", { cache: false });
        const session = await model.session();
        const text = await session.reply("Once upon a time", { seed: 1, maxTokens: 20 }).text();
        const again = await (await model.session()).reply("Once upon a time", { seed: 1, maxTokens: 20 }).text();
        const aborted = async (start) => {
          const control = new AbortController();
          const reply = start({ maxTokens: 1000000, loopTokens: 0, stopAtEnd: false, signal: control.signal });
          let begin = 0;
          setTimeout(() => { begin = performance.now(); control.abort(); }, 300);
          try { for await (const piece of reply); } catch (error) { return [error.name, performance.now() - begin]; }
          return ["none", 0];
        };
        const chat = await model.chat();
        await chat.append("Once upon a time");
        const stops = [
          await aborted((options) => session.reply(options)),
          await aborted((options) => chat.reply(options)),
          await aborted((options) => chat.reply({ ...options, onAbort: "undo" })),
        ];
        const { path } = await chat.state();
        await model.close();
        return {
          text, again, stops, path: path.map(({ role, end }) => [role, end]), info: model.info.kernels,
          threads: model.info.threads, cores: navigator.hardwareConcurrency,
        };`);
      assert.equal(result.text, result.again);
      assert.ok(result.text.length > 20);
      assert.equal(result.info, "wasm");
      assert.equal(result.threads, isolated ? Math.min(4, result.cores) : 1);
      for (const [name, ms] of result.stops) {
        assert.equal(name, "AbortError");
        assert.ok(ms < 1000, `stopped after ${ms} ms`);
      }
      assert.deepEqual(result.path, [["user", null], ["model", "closed"]]);
    });
  }, { skip });
}

// Workers of the pages, by name.
async function workers(page) {
  const { targetInfos } = await page.browser.send("Target.getTargets", { filter: [{}] });
  return targetInfos.filter(({ type }) => type === "worker").length;
}

test("threads of an isolated page give the bits of one, and end with the model", async () => {
  await onPage(empty, async (page, url) => {
    await page.open(`${url}empty`);
    const before = await workers(page);
    const works = (threads) => call(page, `
      globalThis.model = await load("/stories.moka", { threads: ${threads}, integrity: "${integrity}" });
      const session = await model.session();
      const text = await session.reply("Once upon a time", { seed: 1, maxTokens: 40 }).text();
      const chat = await model.chat();
      const turn = await chat.reply("The fox", { temperature: 0, maxTokens: 40 }).text();
      const saved = await session.save();
      const digest = [...new Uint8Array(await crypto.subtle.digest("SHA-256", saved))].join(" ");
      const ids = [...await model.encode("Caf\u00e9")];
      return { threads: model.info.threads, works: [text, turn, digest, ids, await model.decode(ids)] };`);
    const one = await works(1);
    assert.equal(await workers(page), before + 1);
    await page.value("model.close()");
    for (const threads of [2, 5]) {
      const more = await works(threads);
      assert.equal(more.threads, threads);
      assert.deepEqual(more.works, one.works);
      assert.equal(await workers(page), before + threads);
      // In the midst of reading.
      const reading = call(page, `
        const reading = (await model.session()).append("The king had three sons. ".repeat(1000));
        setTimeout(() => model.close(), 100);
        try { await reading; } catch (error) { return error.code; }`);
      assert.equal(await reading, "closed");
      for (let i = 0; i < 100 && (await workers(page)) > before; ++i) await new Promise((done) => setTimeout(done, 50));
      assert.equal(await workers(page), before);
    }
  });
}, { skip });

test("threads that a page cannot have are refused, and the headers named", async () => {
  await onPage({ isolated: false, ...empty }, async (page, url) => {
    await page.open(`${url}empty`);
    const result = await call(page, `
      const tried = [];
      for (const options of [{ threads: 4 }, { wasmUrl: "/moka/moka-threads.wasm" }]) {
        try { await load("/stories.moka", options); } catch (error) { tried.push([error.code, error.message]); }
      }
      const model = await load("/stories.moka", { threads: 1 });
      await model.close();
      return { tried, threads: model.info.threads };`);
    assert.equal(result.threads, 1);
    assert.equal(result.tried.length, 2);
    for (const [code, message] of result.tried) {
      assert.equal(code, "unsupported");
      assert.match(message, /cross-origin isolated/);
    }
    assert.match(result.tried[0][1], /threads is 4.*Cross-Origin-Opener-Policy: same-origin.*Cross-Origin-Embedder-Policy: require-corp/);
  });
}, { skip });

test("the cache: broken downloads never get in, whole ones are used, bad ones replaced", async () => {
  let mode = "break";
  let served = 0;
  const before = (request, response, path) => {
    if (empty.before(request, response, path)) return true;
    if (path !== "/m.moka") return false;
    ++served;
    response.writeHead(200, { "content-length": bytes.length });
    if (mode === "break") response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy());
    else if (mode === "damage") response.end(Buffer.concat([bytes.subarray(0, -64), Buffer.alloc(64, 7)]));
    else response.end(bytes);
    return true;
  };
  await onPage({ before }, async (page, url) => {
    await page.open(`${url}empty`);
    const load = (options = "") => call(page, `
      const stages = new Set();
      try {
        const model = await load("/m.moka", { ${options} onProgress: ({ stage }) => stages.add(stage) });
        await model.close();
        return [model.cached, [...stages].join(" ")];
      } catch (error) { return [error.code, [...stages].join(" ")]; }`);
    const entries = () => page.value(`caches.open("moka-models").then((cache) => cache.keys()).then((keys) => keys.length)`);
    assert.deepEqual(await load(), ["io", "download"]);
    assert.equal(await entries(), 0);
    mode = "damage";
    assert.equal((await load(`integrity: "${integrity}",`))[0], "integrity");
    assert.equal(await entries(), 0);
    mode = "serve";
    assert.equal(served, 2);
    assert.deepEqual(await load(`cache: false,`), [false, "download open"]);
    assert.deepEqual(await load(), [true, "download open"]);
    assert.equal(served, 4);
    assert.deepEqual(await load(`integrity: "${integrity}",`), [true, "cache open"]);
    assert.equal(served, 4);
    await page.value(`caches.open("moka-models").then((cache) => cache.put("/m.moka", new Response("bad")))`);
    assert.deepEqual(await load(), [true, "cache open download"]);
    assert.equal(served, 5);
    assert.deepEqual(await load(`cache: "reload",`), [true, "download open"]);
    assert.equal(await call(page, `return forget("/m.moka");`), true);
    assert.equal(await entries(), 0);
  });
}, { skip });

// ---- the page --------------------------------------------------------------------------------------

const ready = (page) => page.until(`!document.getElementById("room").hidden`);
const idle = (page) => page.until(`document.getElementById("story").getAttribute("aria-busy") === "false" && /^(Done|Stopped)/.test(document.getElementById("status").textContent)`);
const paragraphs = (page) => page.value(`[...document.querySelectorAll("#story p")].map((p) => [p.className, p.textContent])`);

test("the page: a story, stop, another version, undo, branch, by mouse", async () => {
  await mkdir(shots, { recursive: true });
  await onPage({}, async (page, url) => {
    await page.open(url);
    await page.screenshot(`${shots}/loading.png`);
    await ready(page);
    await page.screenshot(`${shots}/ready.png`);
    await page.click("#words");
    await page.type("Once upon a time");
    await page.click("#write");
    await idle(page);
    let story = await paragraphs(page);
    assert.deepEqual(story[0], ["user", "Once upon a time"]);
    assert.equal(story[1][0], "model");
    assert.ok(story[1][1].length > 40);
    const first = story[1][1];
    assert.match(await page.value(`document.getElementById("figures").textContent`), /\d+ tokens per second (with \d threads )?.* first after \d+ ms .* Memory [\d.]+ MB/);

    await page.click("#retry");
    await idle(page);
    story = await paragraphs(page);
    assert.equal(story.length, 2);
    assert.notEqual(story[1][1], first);
    assert.match(await page.value(`document.querySelector("#story .tools:last-child").textContent`), /2 of 2/);
    await page.click(`#story [aria-label^="Version before"]`);
    await page.until(`document.querySelector("#story p.model").textContent === ${JSON.stringify(first)}`);

    await page.click("#words");
    await page.type("But the fox said");
    await page.click("#write");
    await idle(page);
    story = await paragraphs(page);
    assert.deepEqual(story.map(([role]) => role), ["user", "model", "user", "model"]);
    assert.match(story[2][1], /But the fox said$/);
    await page.screenshot(`${shots}/story.png`);

    await page.click(`#story [aria-label^="Continue from here: Once"]`);
    await page.until(`document.querySelectorAll("#story p").length === 1`);
    await page.value(`document.getElementById("length").value = 400; document.getElementById("length").dispatchEvent(new Event("input"))`);
    await page.click("#write");
    await page.until(`document.querySelector("#story p.writing")?.textContent.length > 20`);
    await page.screenshot(`${shots}/writing.png`);
    await page.click("#stop");
    await idle(page);
    assert.match(await page.value(`document.getElementById("status").textContent`), /^Stopped: \d+ tokens/);
    assert.match(await page.value(`document.querySelector("#story .tools:last-child").textContent`), /3 of 3/);
    await page.click("#undo");
    await page.until(`document.getElementById("status").textContent === "Undone."`);
    assert.equal((await paragraphs(page)).length, 1);
    await page.click("#fresh");
    await page.until(`document.querySelector("#story .empty") !== null`);
    await page.click(`#story [aria-label="Go back to: Once upon a time"]`);
    await page.until(`document.querySelectorAll("#story p.model").length === 1`);
    assert.deepEqual(page.errors, []);

    // A second visit: from the cache to the first words in less than a second.
    const begin = performance.now();
    await page.open(`${url}?again`);
    await ready(page);
    await page.click("#write");
    await page.until(`document.querySelector("#story p.model")?.textContent.length > 0`);
    console.log(`[web] from opening the page again to the first words: ${(performance.now() - begin).toFixed(0)} ms`);
    await idle(page);
  });
}, { skip });

test("the page: by keyboard, on a small dark screen, for screen readers", async () => {
  await mkdir(shots, { recursive: true });
  await onPage({ width: 360, height: 740, dark: true, mobile: true, isolated: false }, async (page, url) => {
    await page.open(url);
    await ready(page);
    assert.equal(await page.value("document.activeElement.id"), "words");
    await page.type("The king had a daughter");
    await page.key("Enter", { ctrl: true });
    await page.until(`document.querySelector("#story p.model")?.textContent.length > 20`);
    assert.equal(await page.value("document.activeElement.id"), "stop");
    await page.key("Escape");
    await idle(page);
    assert.equal(await page.value("document.activeElement.id"), "words");
    assert.match(await page.value(`document.getElementById("status").textContent`), /^Stopped/);
    const reached = [];
    for (let i = 0; i < 6; ++i) {
      await page.key("Tab");
      reached.push(await page.value("document.activeElement.id"));
    }
    assert.deepEqual(reached, ["write", "retry", "undo", "fresh", "temperature", "length"]);
    const before = await page.value(`document.getElementById("length").value`);
    await page.key("ArrowRight");
    assert.equal(await page.value(`document.getElementById("length").value`), String(Number(before) + 10));
    assert.equal(await page.value(`document.getElementById("length-value").textContent`), String(Number(before) + 10));
    await page.screenshot(`${shots}/phone-dark.png`);

    // Who stops before the words are read has them back.
    await page.value(`{
      const words = document.getElementById("words");
      words.value = "The king had three sons, and the youngest went out into the world. ".repeat(50).trim();
      document.getElementById("form").requestSubmit();
      document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    }`);
    await idle(page);
    await page.until(`/^The king had three sons/.test(document.getElementById("words").value)`);
    assert.equal((await paragraphs(page)).length, 2);

    // Nothing is wider than the screen, nothing to touch is small.
    assert.equal(await page.value("document.documentElement.scrollWidth"), 360);
    const small = await page.value(`[...document.querySelectorAll("#form button, #form input")].filter((e) => e.getBoundingClientRect().height < 32).map((e) => e.id)`);
    assert.deepEqual(small, []);
    await page.send("Accessibility.enable");
    const { nodes } = await page.send("Accessibility.getFullAXTree");
    const seen = nodes.filter(({ ignored }) => !ignored).map(({ role, name }) => `${role?.value}: ${name?.value ?? ""}`);
    for (const want of [
      "heading: A story in your browser", "article: The story", "textbox: Your words", "button: Write",
      "button: Stop", "button: Another version", "button: Undo", "button: New story", "slider: Temperature", "slider: Length",
    ]) {
      assert.ok(seen.includes(want), `${want} is not in ${JSON.stringify(seen)}`);
    }
    assert.ok(nodes.some(({ role }) => role?.value === "status"));
    assert.deepEqual(page.errors, []);
  });
}, { skip });

test("the page: a model that is not there is told, and tried again", async () => {
  let missing = true;
  const before = (request, response, path) => {
    if (path !== "/gone.moka") return false;
    response.writeHead(missing ? 404 : 200);
    response.end(missing ? "" : bytes);
    return true;
  };
  await onPage({ before }, async (page, url) => {
    await page.open(`${url}?model=gone.moka`);
    await page.until(`!document.getElementById("again").hidden`);
    assert.match(await page.value(`document.getElementById("loading-text").textContent`), /gone\.moka: there is no such model/);
    await page.screenshot(`${shots}/missing.png`);
    missing = false;
    await page.key("Enter", { text: "\r" });
    await ready(page);
  });
}, { skip });

test("the browser ends", async () => {
  await browser?.close();
  assert.ok((await readFile(`${shots}/phone-dark.png`)).length > 5000);
}, { skip });
