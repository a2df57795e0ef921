// What README.md shows is run: blocks of JavaScript behind <!-- test: PATTERN -->, in a project that npm
// installed the package into, must print what the pattern matches.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { project, root, STORIES, test } from "./harness.mjs";

const text = await readFile(`${root}/platforms/web/README.md`, "utf8");
const blocks = [...text.matchAll(/<!-- test: (.*) -->\n```js\n([^]*?)```/g)];

test("there are blocks to run", () => assert.ok(blocks.length >= 2));

blocks.forEach(([, pattern, code], i) => {
  test(`block ${i + 1}`, async () => {
    await copyFile(STORIES, `${project}/stories.moka`);
    await writeFile(`${project}/block${i + 1}.mjs`, code);
    const { stdout } = await promisify(execFile)(process.execPath, [`block${i + 1}.mjs`], { cwd: project });
    assert.match(stdout, new RegExp(pattern));
  });
});

test("types name every export and every option", async () => {
  const types = await readFile(`${root}/platforms/web/package/index.d.ts`, "utf8");
  const index = await readFile(`${root}/platforms/web/package/index.js`, "utf8");
  const exported = [...index.matchAll(/^export (?:async )?(?:class|function) (\w+)/gm)].map(([, name]) => name);
  for (const name of [...exported, "Chat", "ChatReply", "MokaError", "Reply", "Session"]) {
    assert.match(types, new RegExp(`export declare (class|function) ${name}\\b`), name);
  }
  const options = await readFile(`${root}/platforms/web/package/options.js`, "utf8");
  const lists = [...`${options}${index}`.matchAll(/const (?:SAMPLING|WRITING|LOAD) = \[([^\]]*)\]/g)];
  assert.equal(lists.length, 3);
  for (const [, list] of lists) {
    for (const [, name] of list.matchAll(/"(\w+)"/g)) assert.match(types, new RegExp(`\\b${name}\\?:`), name);
  }
});
