// node run.mjs [FILE...]: the cases of these files, or of all.
import { runAll } from "./harness.mjs";

const ALL = ["writer", "load", "session", "threads", "chat", "readme", "browser", "firefox"];
const names = process.argv.slice(2);
process.exit((await runAll(names.length > 0 ? names : ALL)) ? 0 : 1);
