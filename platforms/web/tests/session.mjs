// Sessions: reading, writing, copies, and what is left behind when something ends them.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { promisify } from "node:util";
import { command, fails, moka, root, STORIES, test } from "./harness.mjs";

const model = await moka.load(STORIES);
const GREEDY = { temperature: 0 };
const PROMPT = "Once upon a time there was a king";
const LONG = "The king had three sons, and the youngest of them went out into the world. ".repeat(60);

async function withSession(use) {
  const session = await model.session();
  try {
    return await use(session);
  } finally {
    await session.close();
  }
}
const story = (options) => withSession((session) => session.reply(PROMPT, options).text());

test("text and ids", async () => {
  const text = "Caf\u00e9 \u{1f600}, she said.";
  const ids = await model.encode(text);
  assert.ok(ids instanceof Int32Array && ids.length > 4);
  assert.equal(await model.decode(ids), text);
  assert.equal(await model.decode([...ids]), text);
  await fails(() => model.decode([model.info.vocabSize]), "out_of_range");
  await fails(() => model.decode([-1]), "invalid_argument", /-1/);
});

test("a seed gives the same text, another one another", async () => {
  const one = await story({ seed: 7, maxTokens: 40 });
  assert.equal(await story({ seed: 7, maxTokens: 40 }), one);
  assert.notEqual(await story({ seed: 8, maxTokens: 40 }), one);
  await withSession(async (session) => {
    const reply = session.reply(PROMPT, { seed: 7, maxTokens: 40 });
    const pieces = [];
    for await (const piece of reply) pieces.push(piece);
    assert.ok(pieces.length > 20 && pieces.every((piece) => piece !== ""));
    assert.equal(pieces.join(""), one);
    assert.deepEqual([reply.end, reply.tokens, reply.seed, reply.done], ["tokens", 40, 7, true]);
    const prompt = (await model.encode(PROMPT)).length + 1; // and the token that begins texts
    assert.equal(session.position, prompt + 40);
  });
});

test("without a seed it is a random one, which is told", async () => {
  await withSession(async (session) => {
    const reply = session.reply(PROMPT, { maxTokens: 20 });
    const text = await reply.text();
    assert.equal(await story({ seed: reply.seed, maxTokens: 20 }), text);
  });
});

// The numbers of a NumPy file, in an array of the type that they have.
function numbersOf(file, Numbers) {
  const begin = 10 + file.readUInt16LE(8);
  return new Numbers(file.buffer.slice(file.byteOffset + begin, file.byteOffset + file.length));
}

test("logits are those of the command on this machine, but for rounding", async () => {
  const folder = await mkdtemp(`${tmpdir()}/moka-web-`);
  try {
    const path = `${root}/tests/data/stories_parity_ids.npy`;
    await promisify(execFile)(command, ["logits", STORIES, "--ids", path, "-o", `${folder}/rows.npy`]);
    const ids = numbersOf(await readFile(path), Int32Array);
    const rows = numbersOf(await readFile(`${folder}/rows.npy`), Float32Array);
    const { outputs } = model.info;
    assert.equal(rows.length, ids.length * outputs);
    await withSession(async (session) => {
      let worst = 0;
      for (let at = 0; at < ids.length; at += 50) {
        await session.append(ids.subarray(at, at + 50));
        const end = session.position * outputs;
        const web = await session.logits();
        assert.equal(web.length, outputs);
        worst = Math.max(worst, divergence(rows.subarray(end - outputs, end), web));
      }
      assert.ok(worst < 5e-3, `KL ${worst}`);
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}, { skip: command ? null : "MOKA_COMMAND names no command" });

function divergence(p, q) {
  const norm = (row) => {
    const top = row.reduce((a, b) => Math.max(a, b));
    return top + Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
  };
  const [np, nq] = [norm(p), norm(q)];
  return p.reduce((sum, x, i) => sum + Math.exp(x - np) * (x - np - (q[i] - nq)), 0);
}

test("a fork goes its own way, and a saved session goes on with the same bits", async () => {
  await withSession(async (session) => {
    await session.append(PROMPT);
    const saved = await session.save();
    const fork = await session.fork();
    assert.equal(fork.position, session.position);
    const one = await session.reply({ ...GREEDY, maxTokens: 30 }).text();
    assert.deepEqual(await fork.save(), saved);
    assert.equal(await fork.reply({ ...GREEDY, maxTokens: 30 }).text(), one);
    assert.deepEqual(await fork.save(), await session.save());
    await fork.restore(saved);
    assert.equal(await fork.reply({ ...GREEDY, maxTokens: 30 }).text(), one);
    const damaged = saved.slice();
    damaged[damaged.length >> 1] ^= 1;
    const before = fork.position;
    await fails(() => fork.restore(damaged), "corrupt");
    await fails(() => fork.restore("text"), "invalid_argument");
    assert.equal(fork.position, before);
    await fork.reset();
    assert.equal(fork.position, 0);
    assert.equal((await fork.logits()).length, 0);
    await fork.close();
    await fails(() => fork.save(), "closed");
  });
});

test("a text in pieces of 128 tokens is the text at once", async () => {
  await withSession(async (session) => {
    await session.append(LONG);
    const ids = Int32Array.of(model.info.startToken, ...(await model.encode(LONG)));
    assert.ok(ids.length > 600);
    assert.equal(session.position, ids.length);
    await withSession(async (other) => {
      for (let i = 0; i < ids.length; i += 128) await other.append(ids.subarray(i, i + 128));
      assert.deepEqual(await other.save(), await session.save());
    });
  });
});

test("leaving the loop stops behind the last piece", async () => {
  const PLAIN = { ...GREEDY, repeatPenalty: 1 }; // which a new reply would begin to count anew
  const whole = await story({ ...PLAIN, maxTokens: 30 });
  await withSession(async (session) => {
    let text = "";
    const reply = session.reply(PROMPT, { ...PLAIN, maxTokens: 30 });
    for await (const piece of reply) {
      text += piece;
      await new Promise((done) => setTimeout(done, 5)); // it does not run ahead meanwhile
      if (reply.tokens >= 10) break;
    }
    assert.equal(reply.end, "closed");
    const { tokens } = reply;
    assert.ok(tokens >= 10 && tokens < 14);
    text += await session.reply({ ...PLAIN, maxTokens: 30 - tokens }).text();
    assert.equal(text, whole);
  });
});

test("a signal stops the writing within a token, and the session stays usable", async () => {
  await withSession(async (session) => {
    const control = new AbortController();
    const reply = session.reply(PROMPT, { ...GREEDY, maxTokens: 100000, signal: control.signal });
    const seen = [];
    await assert.rejects(async () => {
      for await (const piece of reply) {
        seen.push(piece);
        if (seen.length === 5) control.abort();
      }
    }, { name: "AbortError" });
    assert.equal(seen.length, 5);
    assert.equal(reply.end, "closed");
    const begin = performance.now();
    await session.reply({ ...GREEDY, maxTokens: 1 }).text();
    assert.ok(performance.now() - begin < 5000);
    // All of it at once: the worker hears of the signal between two tokens.
    const late = new AbortController();
    const before = session.position;
    setTimeout(() => late.abort(new Error("late")), 100);
    const text = session.reply({ ...GREEDY, maxTokens: 100000, loopTokens: 0, stopAtEnd: false, signal: late.signal }).text();
    await assert.rejects(text, /late/);
    assert.ok(session.position < before + 5000);
  });
});

test("a signal undoes a prompt that is being read", async () => {
  await withSession(async (session) => {
    await session.append(PROMPT);
    const saved = await session.save();
    const control = new AbortController();
    const reading = session.append(LONG.repeat(10), { signal: control.signal });
    await fails(() => session.append("x"), "busy");
    control.abort();
    await assert.rejects(reading, { name: "AbortError" });
    assert.deepEqual(await session.save(), saved);
    const late = new AbortController();
    const reply = session.reply(LONG.repeat(10), { signal: late.signal });
    const first = reply.next();
    setTimeout(() => late.abort(), 30);
    await assert.rejects(first, { name: "AbortError" });
    assert.deepEqual(await session.save(), saved);
    await session.append("go on");
  });
});

test("what ends a text", async () => {
  const whole = await story({ ...GREEDY, maxTokens: 60 });
  const word = whole.trim().split(/\s+/)[8];
  await withSession(async (session) => {
    const reply = session.reply(PROMPT, { ...GREEDY, maxTokens: 60, stop: [word] });
    assert.equal(await reply.text(), whole.slice(0, whole.indexOf(word)));
    assert.equal(reply.end, "stop_text");
  });
  await withSession(async (session) => {
    const reply = session.reply(PROMPT, { maxTokens: 100000, maxMs: 50 });
    await reply.text();
    assert.equal(reply.end, "time");
  });
  await withSession(async (session) => {
    const line = "and the cat said meow. ".repeat(40);
    const reply = session.reply(line, { ...GREEDY, maxTokens: 3000, loopTokens: 40, stopAtEnd: false });
    await reply.text();
    assert.equal(reply.end, "loop");
  });
});

test("one user at a time", async () => {
  await withSession(async (session) => {
    const reply = session.reply(PROMPT, { maxTokens: 20 });
    await reply.next();
    await fails(() => session.append("x"), "busy");
    await fails(() => session.reply("x").next(), "busy");
    await fails(() => session.reset(), "busy");
    await reply.close();
    assert.equal(reply.end, "closed");
    await session.append("x");
  });
});

test("wrong options are told by their names, before anything is done", async () => {
  await withSession(async (session) => {
    for (const [options, words] of [
      [{ maxTokens: 0 }, /maxTokens is 0/],
      [{ temperature: -1 }, /temperature is -1/],
      [{ topP: 2 }, /topP is 2/],
      [{ topK: 1.5 }, /topK is 1.5/],
      [{ seed: -3 }, /seed is -3/],
      [{ stop: [""] }, /stop/],
      [{ stop: [1] }, /stop is 1/],
      [{ loopTokens: 1e9 }, /loopTokens/],
      [{ max_tokens: 5 }, /"max_tokens"/],
    ]) {
      await fails(() => session.reply(PROMPT, options), "invalid_argument", words);
    }
    await fails(() => session.reply().next(), "failed_precondition", /no prompt/);
    await fails(() => session.append([model.info.vocabSize]), "out_of_range");
    await fails(() => session.append({}), "invalid_argument");
    assert.equal(session.position, 0);
  });
});

test("sessions are disposed of, and a closed model ends what runs", async () => {
  const own = await moka.load(STORIES);
  const session = await own.session();
  if (Symbol.asyncDispose) await session[Symbol.asyncDispose]();
  else await session.close();
  await fails(() => session.append("x"), "closed");
  const other = await own.session();
  const reading = other.append(LONG.repeat(20));
  await own.close();
  await fails(() => reading, "closed");
  await other.close();
});

test("many sessions are given back", async () => {
  const { total } = await model.memory();
  for (let i = 0; i < 100; ++i) await withSession((session) => session.append(PROMPT));
  const after = await model.memory();
  assert.ok(after.total - total < 20 * model.info.stateBytes, `${after.total - total} bytes more`);
});
