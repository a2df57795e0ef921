// The rules that end a text, by themselves.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { project, test } from "./harness.mjs";

const { LoopGuard, StopTexts } = await import(pathToFileURL(`${project}/node_modules/moka-web/writer.js`).href);

test("stop texts hold back what may become one", () => {
  const stops = new StopTexts(["END", "\n\n"]);
  assert.equal(stops.push("a E"), "a ");
  assert.equal(stops.push("N"), "");
  assert.equal(stops.push("S E"), "ENS ");
  assert.equal(stops.push("ND and more"), "");
  assert.equal(stops.stopped, true);
  assert.equal(stops.finish(), "");
});

test("the first stop text in the text counts", () => {
  const stops = new StopTexts(["later", "now"]);
  assert.equal(stops.push("do it now, not later"), "do it ");
  const none = new StopTexts(["zz"]);
  assert.equal(none.push("az"), "a");
  assert.equal(none.finish(), "z");
  assert.equal(none.stopped, false);
});

// By its definition: the last `tokens` tokens repeat a cycle of at most a fourth of them.
function isLoop(tokens, count) {
  const last = tokens.slice(-count);
  if (last.length < count) return false;
  for (let p = 1; p <= Math.floor(count / 4); ++p) {
    if (last.every((token, i) => i < p || token === last[i - p])) return true;
  }
  return false;
}

test("the loop guard is its definition", () => {
  for (const count of [0, 3, 4, 8, 12]) {
    const guard = new LoopGuard(count);
    const tokens = [];
    let found = 0;
    for (let i = 0; i < 400; ++i) {
      // Runs of cycles of length 1, 2 and 3, with something else between them.
      const cycle = 1 + (Math.floor(i / 40) % 3);
      tokens.push(i % 40 < 10 ? i : i % cycle);
      const want = count >= 4 && isLoop(tokens, count);
      assert.equal(guard.push(tokens[i]), want, `${count} at ${i}`);
      found += want ? 1 : 0;
    }
    assert.equal(found > 0, count >= 4);
  }
});
