// Chats: the tree of turns, aborting, files of the command.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { promisify } from "node:util";
import { command, fails, moka, STORIES, test } from "./harness.mjs";

const model = await moka.load(STORIES);
const SHORT = { temperature: 0, maxTokens: 12 };
const PROMPT = "Once upon a time there was a king";

async function withChat(options, use) {
  const chat = await model.chat(options);
  try {
    return await use(chat);
  } finally {
    await chat.close();
  }
}

test("a chat writes what a session writes", async () => {
  const options = { seed: 5, temperature: 0.9, topK: 50, maxTokens: 40 };
  const session = await model.session();
  const start = [model.info.startToken, ...(await model.encode(PROMPT))];
  const want = await session.reply(start, options).text();
  await session.close();
  await withChat({}, async (chat) => {
    const pieces = [];
    const reply = chat.reply(PROMPT, options);
    for await (const piece of reply) pieces.push(piece);
    assert.equal(pieces.join(""), want);
    assert.deepEqual([reply.end, reply.tokens, reply.seed], ["tokens", 40, 5]);
    const { path, current, turns } = await chat.state();
    assert.equal(reply.turn, current);
    assert.deepEqual(path.map(({ role, text }) => [role, text]), [["user", PROMPT], ["model", want]]);
    assert.equal(turns.length, 2);
    assert.equal(path[1].tokens, 40);
    assert.equal(path[1].kept, true);
  });
});

test("undo, another version, branches, and back again", async () => {
  await withChat({}, async (chat) => {
    const first = chat.reply(PROMPT, { seed: 1, maxTokens: 12 });
    const one = await first.text();
    const second = chat.retry({ seed: 2, maxTokens: 12 });
    const two = await second.text();
    assert.notEqual(one, two);
    let { path, turns } = await chat.state();
    assert.equal(path[1].text, two);
    assert.equal(turns.length, 3);
    assert.equal(await chat.switchTo(first.turn), first.turn);
    const user = await chat.undo();
    assert.equal(user, path[0].id);
    const branch = await chat.branch(user, " who was old");
    const edited = await chat.edit(user, "There was a queen");
    ({ path, turns } = await chat.state());
    assert.deepEqual(path.map(({ text }) => text), ["There was a queen"]);
    assert.equal(path[0].parent, 0);
    assert.equal(turns.length, 5);
    await fails(() => chat.remove(edited), "failed_precondition");
    await chat.switchTo(branch);
    await chat.remove(edited);
    assert.equal((await chat.turns()).length, 4);
    await chat.switchTo(0);
    await fails(() => chat.undo(), "failed_precondition");
    await fails(() => chat.switchTo(999), "not_found", /999/);
    await fails(() => chat.append("x", { role: "king" }), "invalid_argument", /"king"/);
  });
});

test("a saved chat goes on with the same bytes", async () => {
  await withChat({ seed: 3 }, async (chat) => {
    await chat.reply(PROMPT, { maxTokens: 10 }).text();
    const saved = await chat.save();
    const next = await chat.reply({ maxTokens: 15 }).text();
    await withChat({ saved }, async (other) => {
      assert.equal(await other.reply({ maxTokens: 15 }).text(), next);
    });
    saved[100] ^= 1;
    await fails(() => model.chat({ saved }), "corrupt");
  });
});

test("a chat of the command goes on here, and the other way round", async () => {
  const folder = await mkdtemp(`${tmpdir()}/moka-web-`);
  const run = (lines) => new Promise((done, fail) => {
    const child = execFile(command, ["chat", STORIES, "--session", `${folder}/c.chat`, "-n", "8", "--json"],
      (error, stdout) => (error ? fail(error) : done(stdout)));
    child.stdin.end(lines);
  });
  try {
    await run("The cat sat on the mat.\n");
    const saved = new Uint8Array(await readFile(`${folder}/c.chat`));
    await withChat({ saved }, async (chat) => {
      const { path } = await chat.state();
      assert.deepEqual(path.map(({ role }) => role), ["user", "model"]);
      assert.equal(path[0].text, "The cat sat on the mat.");
      await chat.append(" And then");
      await writeFile(`${folder}/c.chat`, await chat.save());
    });
    assert.match(await run("/turns\n"), / And then/);
  } finally {
    await rm(folder, { recursive: true });
  }
}, { skip: command ? null : "MOKA_COMMAND names no command" });

test("a signal ends the writing; the turn stays, or is undone", async () => {
  await withChat({}, async (chat) => {
    await chat.append(PROMPT);
    const abortAfter = async (options) => {
      const control = new AbortController();
      const reply = chat.reply({ maxTokens: 100000, loopTokens: 0, ...options, signal: control.signal });
      let text = "";
      await assert.rejects(async () => {
        for await (const piece of reply) {
          text += piece;
          if (text.length > 20) control.abort();
        }
      }, { name: "AbortError" });
      return [reply, text];
    };
    const [kept, text] = await abortAfter({});
    let { path } = await chat.state();
    assert.deepEqual([kept.end, kept.turn], ["closed", path[1].id]);
    assert.equal(path[1].text, text);
    assert.equal(path[1].end, "closed");
    assert.ok(path[1].tokens < 5000);
    await chat.undo();
    const [undone] = await abortAfter({ onAbort: "undo" });
    assert.deepEqual([undone.end, undone.turn], ["closed", null]);
    ({ path } = await chat.state());
    assert.equal(path.length, 1);
    await assert.rejects(chat.reply({ signal: AbortSignal.abort() }).text(), { name: "AbortError" });
    await fails(() => chat.reply({ onAbort: "maybe" }), "invalid_argument", /maybe/);
  });
});

test("leaving the loop keeps the turn", async () => {
  await withChat({}, async (chat) => {
    const reply = chat.reply(PROMPT, { maxTokens: 100000, loopTokens: 0 });
    let pieces = 0;
    for await (const piece of reply) if (piece !== "" && ++pieces === 3) break;
    assert.equal(reply.end, "closed");
    assert.ok(reply.done);
    const { path } = await chat.state();
    assert.equal(path.at(-1).id, reply.turn);
  });
});

test("templates and stops", async () => {
  const template = { id: "plain", userPrefix: "\nQ: ", modelPrefix: "\nA: ", modelSuffix: "\n" };
  await withChat({ template }, async (chat) => {
    const whole = await chat.reply("Who was the king?", { ...SHORT, maxTokens: 30 }).text();
    const word = whole.trim().split(/\s+/)[3];
    const reply = chat.retry({ ...SHORT, maxTokens: 30, stop: word });
    assert.equal(await reply.text(), whole.slice(0, whole.indexOf(word)));
    assert.equal(reply.end, "stop_text");
    const saved = await chat.save();
    await fails(() => model.chat({ saved }), "failed_precondition", /plain/);
  });
  await fails(() => model.chat({ template: { prefix: "x" } }), "invalid_argument", /"prefix"/);
});

test("states that were let go are read again, and told", async () => {
  const told = [];
  await withChat({ stateBudgetBytes: 0, onProgress: (progress) => told.push(progress) }, async (chat) => {
    const first = await chat.append(PROMPT);
    await chat.append(" of the east.");
    await chat.append(" He had three sons.");
    told.length = 0;
    await chat.switchTo(first);
    assert.ok(told.some(({ again }) => again));
    assert.equal(told.at(-1).done, told.at(-1).total);
  });
});
