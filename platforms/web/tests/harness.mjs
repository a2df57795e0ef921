// A small harness: cases register themselves, and a summary like doctest's ends the run.
import { existsSync } from "node:fs";
import { delimiter } from "node:path";
import { pathToFileURL } from "node:url";

const cases = [];
let file = "";

/** A case; `skip` says why it cannot run here. */
export function test(name, run, { skip = null } = {}) {
  cases.push({ name: `${file}: ${name}`, run, skip });
}

export const root = process.env.MOKA_ROOT ?? process.cwd();
export const project = process.env.MOKA_PROJECT;
export const command = process.env.MOKA_COMMAND;
/** The package, as the project has it. */
export const moka = await import(pathToFileURL(`${project}/node_modules/moka-web/index.js`).href);

export const STORIES = `${root}/models/stories.moka`;

/** A program that the variable names, or one of these names; undefined when there is none. */
export function programOf(variable, names) {
  const wanted = process.env[variable] ? [process.env[variable]] : names;
  const folders = (process.env.PATH ?? "").split(delimiter);
  return wanted.flatMap((name) => (name.includes("/") ? [name] : folders.map((folder) => `${folder}/${name}`))).find(existsSync);
}

/** Passes when `call` fails with this code, and a message that `words` match. */
export async function fails(call, code, words = /./) {
  let result;
  try {
    result = await call();
  } catch (error) {
    if (error.code === code && words.test(error.message)) return error;
    throw new Error(`expected ${code} ${words}, but got ${error.code}: ${error.stack}`);
  }
  throw new Error(`expected ${code}, but it gave ${String(result)}`);
}

export async function runAll(files) {
  for (const name of files) {
    file = name;
    await import(new URL(`./${name}.mjs`, import.meta.url).href);
  }
  let passed = 0;
  let failed = 0;
  for (const { name, run, skip } of cases) {
    if (skip) {
      console.log(`skipped: ${name}: ${skip}`);
      continue;
    }
    const begin = performance.now();
    try {
      await run();
      ++passed;
      if (process.env.MOKA_VERBOSE) console.log(`${(performance.now() - begin).toFixed(0)} ms: ${name}`);
    } catch (error) {
      ++failed;
      console.log(`FAILED: ${name}\n${error.stack}\n`);
    }
  }
  console.log(`[web] test cases: ${passed + failed} | ${passed} passed | ${failed} failed |`);
  return failed === 0;
}
