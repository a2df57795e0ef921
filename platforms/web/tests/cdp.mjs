// Drives a browser through the DevTools protocol, over pipes.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";

export class Browser {
  #calls = new Map();
  #last = 0;
  #rest = "";
  #listeners = new Set();

  static async start(program) {
    const browser = new Browser();
    browser.folder = mkdtempSync(`${tmpdir()}/moka-browser-`);
    browser.process = spawn(program, [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
      "--disable-extensions", "--disable-background-networking", "--remote-debugging-pipe",
      `--user-data-dir=${browser.folder}`, "about:blank",
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    const [, , , input, output] = browser.process.stdio;
    browser.input = input;
    browser.ended = new Promise((done) => browser.process.on("exit", done));
    browser.process.on("error", (error) => browser.#fail(error));
    browser.ended.then((code) => browser.#fail(new Error(`the browser ended with ${code}`)));
    output.setEncoding("utf8");
    output.on("data", (data) => browser.#read(data));
    await browser.send("Browser.getVersion");
    return browser;
  }

  #read(data) {
    const messages = (this.#rest + data).split("\0");
    this.#rest = messages.pop();
    for (const text of messages) {
      const message = JSON.parse(text);
      if (message.id === undefined) {
        for (const listener of [...this.#listeners]) listener(message);
        continue;
      }
      const call = this.#calls.get(message.id);
      this.#calls.delete(message.id);
      if (message.error) call?.reject(new Error(`${call.method}: ${message.error.message}`));
      else call?.resolve(message.result);
    }
  }
  #fail(error) {
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
    this.failure = error;
  }

  send(method, params = {}, sessionId = undefined) {
    if (this.failure) return Promise.reject(this.failure);
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject, method });
      this.input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }
  listen(listener) {
    this.#listeners.add(listener);
  }

  async page({ width = 1000, height = 900, dark = false, mobile = false } = {}) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, targetId, sessionId);
    await page.send("Page.enable");
    await page.send("Runtime.enable");
    await page.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile });
    await page.send("Emulation.setEmulatedMedia", {
      features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }],
    });
    return page;
  }

  async close() {
    await this.send("Browser.close").catch(() => {});
    await this.ended;
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  constructor(browser, targetId, sessionId) {
    Object.assign(this, { browser, targetId, sessionId, errors: [] });
    browser.listen(({ method, params, sessionId: of }) => {
      if (of !== sessionId) return;
      if (method === "Runtime.exceptionThrown") {
        this.errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      }
      if (method === "Runtime.consoleAPICalled" && params.type === "error") {
        this.errors.push(params.args.map((arg) => arg.value ?? arg.description).join(" "));
      }
    });
  }
  send(method, params) {
    return this.browser.send(method, params, this.sessionId);
  }
  async open(url) {
    await this.send("Page.navigate", { url });
    await this.until(`document.readyState === "complete" && location.href === ${JSON.stringify(url)}`);
  }
  /** The value of an expression, awaited. */
  async value(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression, awaitPromise: true, returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }
  async until(expression, seconds = 180) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
      if (await this.value(expression).catch(() => false)) return;
      if (Date.now() > end) throw new Error(`after ${seconds} s still not: ${expression}`);
      await new Promise((done) => setTimeout(done, 30));
    }
  }
  async click(selector) {
    const [x, y] = await this.value(`(() => {
      const element = document.querySelector(${JSON.stringify(selector)});
      element.scrollIntoView({ block: "center" });
      const box = element.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    })()`);
    for (const type of ["mousePressed", "mouseReleased"]) {
      await this.send("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
    }
  }
  type(text) {
    return this.send("Input.insertText", { text });
  }
  async key(key, { code = key, ctrl = false, text } = {}) {
    const keyCode = { Tab: 9, Enter: 13, Escape: 27, " ": 32, ArrowRight: 39, ArrowLeft: 37 }[key];
    const event = { key, code, windowsVirtualKeyCode: keyCode, modifiers: ctrl ? 2 : 0, text };
    await this.send("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event, text: undefined });
  }
  async screenshot(path) {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    await writeFile(path, Buffer.from(data, "base64"));
  }
  close() {
    return this.browser.send("Target.closeTarget", { targetId: this.targetId });
  }
}
