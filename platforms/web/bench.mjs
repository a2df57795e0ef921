// Speed of the package beside that of the command, with one thread each and with several, in turns:
//
//   node platforms/web/bench.mjs [MODEL [ROUNDS [THREADS]]]
//
// after platforms/web/build.sh and a release build. Tokens per second, median of the rounds (least to most).
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { availableParallelism, cpus } from "node:os";

const root = fileURLToPath(new URL("../..", import.meta.url));
const [path = `${root}models/stories.moka`, rounds = "5", most = availableParallelism()] = process.argv.slice(2);
const { load } = await import(`${root}build/web/package/index.js`);
const DEPTHS = [0, 4096];
const PROMPT = 512;
const TOKENS = 128;

// What the command measures, of one round.
function native(threads) {
  const depths = DEPTHS.join(",");
  const out = execFileSync(process.env.MOKA_COMMAND ?? `${root}build/release/moka`, [
    "bench", path, "--threads", String(threads), "--depth", depths, "--prompt", String(PROMPT), "-n", String(TOKENS),
    "--repeat", "1", "--json",
  ]);
  const { runs } = JSON.parse(out);
  return runs[0].depths.map((depth) => [
    depth.prefill_tokens_per_second.median, depth.decode_tokens_per_second.median,
  ]);
}

// The same by the package. Tokens are made up, as those of the command.
async function web(model) {
  const ids = (count) => Int32Array.from({ length: count }, (_, i) => (i * 7919 + 13) % model.info.vocabSize);
  const speeds = [];
  for (const depth of DEPTHS) {
    const session = await model.session();
    if (depth > 0) await session.append(ids(depth));
    const begin = performance.now();
    await session.append(ids(PROMPT));
    const read = performance.now();
    await session.reply({ temperature: 0, maxTokens: TOKENS, stopAtEnd: false, loopTokens: 0 }).text();
    const end = performance.now();
    speeds.push([(PROMPT * 1000) / (read - begin), (TOKENS * 1000) / (end - read)]);
    await session.close();
  }
  return speeds;
}

const models = {};
for (const threads of new Set([1, Number(most)])) {
  const begin = performance.now();
  const model = await load(path, { threads });
  const session = await model.session();
  await session.reply("Once upon a time", { maxTokens: 1 }).text();
  console.log(`threads ${threads}: first token ${(performance.now() - begin).toFixed(0)} ms after the start of load()`);
  await web(model); // engines compile again what runs often
  models[threads] = model;
}

console.log(`${cpus()[0].model}, ${availableParallelism()} cores, node ${process.version}`);
const all = { native: {}, web: {} };
for (let i = 0; i < Number(rounds); ++i) {
  for (const [threads, model] of Object.entries(models)) {
    (all.native[threads] ??= []).push(native(threads));
    (all.web[threads] ??= []).push(await web(model));
  }
}
const middle = (values, digits = 0) => {
  const sorted = [...values].sort((a, b) => a - b);
  const [median, least, most] = [sorted[sorted.length >> 1], sorted[0], sorted.at(-1)].map((value) => value.toFixed(digits));
  return { median, text: `${median} (${least} to ${most})` };
};
DEPTHS.forEach((depth, d) => {
  [`prompt of ${PROMPT}`, "generation"].forEach((what, w) => {
    const of = (side, threads) => all[side][threads].map((round) => round[d][w]);
    for (const threads of Object.keys(models)) {
      const [own, other] = [middle(of("web", threads)), middle(of("native", threads))];
      const share = ((100 * own.median) / other.median).toFixed(0);
      console.log(`depth ${depth}, ${what}, threads ${threads}: WebAssembly ${own.text}, native ${other.text}, ${share} %`);
      if (threads === "1") continue;
      // Of each round by itself: what else the machine does changes from round to round.
      const gain = (side) => middle(of(side, threads).map((speed, i) => speed / of(side, 1)[i]), 2).text;
      console.log(`  times as fast as one: WebAssembly ${gain("web")}, native ${gain("native")}`);
    }
  });
});
for (const [threads, model] of Object.entries(models)) {
  console.log(`memory, threads ${threads}: ${((await model.memory()).total / 1e6).toFixed(1)} MB`);
  await model.close();
}
