// Speed of the package beside that of the command, on one thread each, in turns:
//
//   node platforms/web/bench.mjs [MODEL [ROUNDS]]
//
// after platforms/web/build.sh and a release build. Tokens per second, median of the rounds (least to most).
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { cpus } from "node:os";

const root = fileURLToPath(new URL("../..", import.meta.url));
const [path = `${root}models/stories.moka`, rounds = "5"] = process.argv.slice(2);
const { load } = await import(`${root}build/web/package/index.js`);
const DEPTHS = [0, 4096];
const PROMPT = 512;
const TOKENS = 128;

// What the command measures, of one round.
function native() {
  const depths = DEPTHS.join(",");
  const out = execFileSync(process.env.MOKA_COMMAND ?? `${root}build/release/moka`, [
    "bench", path, "--threads", "1", "--depth", depths, "--prompt", String(PROMPT), "-n", String(TOKENS),
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

const begin = performance.now();
const model = await load(path);
const session = await model.session();
await session.reply("Once upon a time", { maxTokens: 1 }).text();
console.log(`${cpus()[0].model}, node ${process.version}: first token ${(performance.now() - begin).toFixed(0)} ms after the start of load()`);
await web(model); // engines compile again what runs often

const all = { native: [], web: [] };
for (let i = 0; i < Number(rounds); ++i) {
  all.native.push(native());
  all.web.push(await web(model));
}
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
DEPTHS.forEach((depth, d) => {
  [`prompt of ${PROMPT}`, "generation"].forEach((what, w) => {
    const [own, other] = ["web", "native"].map((side) => all[side].map((round) => round[d][w]));
    const [a, b] = [median(own), median(other)];
    const text = (values) => `${median(values).toFixed(0)} (${values[0].toFixed(0)} to ${values.at(-1).toFixed(0)})`;
    console.log(`depth ${depth}, ${what}: WebAssembly ${text(own)}, native ${text(other)}, ${((100 * a) / b).toFixed(0)} %`);
  });
});
console.log(`memory: ${((await model.memory()).total / 1e6).toFixed(1)} MB`);
await model.close();
