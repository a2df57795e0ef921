// Options of calls, checked where they are given, so that a wrong one is told by its name at once.
import { failed } from "./errors.js";

const invalid = (name, value, right) =>
  failed("invalid_argument", `${name} is ${typeof value === "string" ? JSON.stringify(value) : String(value)}, must be ${right}`);

export function whole(name, value, least, most = Number.MAX_SAFE_INTEGER) {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
  const right = most === Number.MAX_SAFE_INTEGER ? `a whole number of at least ${least}` : `a whole number, ${least} to ${most}`;
  throw invalid(name, value, right);
}
function number(name, value, least, most = Infinity) {
  if (typeof value === "number" && value >= least && value <= most) return value;
  throw invalid(name, value, most === Infinity ? `a number of at least ${least}` : `a number, ${least} to ${most}`);
}
export function string(name, value) {
  if (typeof value === "string") return value;
  throw invalid(name, value, "a string");
}
const given = (value, check) => (value === undefined || value === null ? undefined : check(value));

export function known(what, options, names) {
  if (options === null || typeof options !== "object") throw invalid(what, options, "an object of options");
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) {
      throw failed("invalid_argument", `${what} has no option "${name}"; there are ${names.join(", ")}`);
    }
  }
}

export const SAMPLING = ["temperature", "topK", "topP", "minP", "repeatPenalty", "repeatWindow", "seed"];
export const WRITING = ["maxTokens", "maxMs", "stop", "stopAtEnd", "loopTokens"];

const COUNT = 2 ** 32 - 1;

/** What the model recommends for what is not given, except for the seed, which is a random one then. */
export function samplingOf(options) {
  return {
    temperature: given(options.temperature, (v) => number("temperature", v, 0)),
    topK: given(options.topK, (v) => whole("topK", v, 0, COUNT)),
    topP: given(options.topP, (v) => number("topP", v, 0, 1)),
    minP: given(options.minP, (v) => number("minP", v, 0, 1)),
    repeatPenalty: given(options.repeatPenalty, (v) => number("repeatPenalty", v, 0)),
    repeatWindow: given(options.repeatWindow, (v) => whole("repeatWindow", v, 0, COUNT)),
    seed: given(options.seed, (v) => whole("seed", v, 0)) ?? Math.floor(Math.random() * 2 ** 32),
  };
}

export function writingOf(options) {
  const stop = typeof options.stop === "string" ? [options.stop] : [...(options.stop ?? [])];
  if (stop.length > 64) throw invalid("stop", `${stop.length} texts`, "at most 64 texts");
  for (const text of stop) {
    if (string("stop", text) === "") throw invalid("stop", text, "texts that are not empty");
  }
  return {
    stop,
    maxTokens: given(options.maxTokens, (v) => whole("maxTokens", v, 1)) ?? 512,
    maxMs: given(options.maxMs, (v) => whole("maxMs", v, 0)) ?? 0,
    stopAtEnd: options.stopAtEnd ?? true,
    loopTokens: given(options.loopTokens, (v) => whole("loopTokens", v, 0, 65536)) ?? 256,
  };
}

/** Text stays text; ids become an array of them. */
export function inputOf(name, input) {
  if (typeof input === "string") return input;
  if (input instanceof Int32Array) return input;
  if (Array.isArray(input)) return Int32Array.from(input, (id) => whole(`an id of ${name}`, id, 0, 2 ** 31 - 1));
  throw invalid(name, input, "a string, or an array of token ids");
}
