// What ends a text that a session writes: stop texts, and text that goes round in circles. The rules are
// those of moka_session_generate (moka_session.h). Runs inside the worker.

/** Holds back what may become a stop text. */
export class StopTexts {
  constructor(stops) {
    this.stops = stops;
    this.held = "";
    this.stopped = false;
  }
  /** The text that is certain now. */
  push(text) {
    this.held += text;
    let end = -1;
    for (const stop of this.stops) {
      const at = this.held.indexOf(stop);
      if (at >= 0 && (end < 0 || at < end)) end = at;
    }
    if (end >= 0) {
      this.stopped = true;
      const out = this.held.slice(0, end);
      this.held = "";
      return out;
    }
    let keep = 0;
    for (const stop of this.stops) keep = Math.max(keep, overlap(this.held, stop));
    const out = this.held.slice(0, this.held.length - keep);
    this.held = this.held.slice(this.held.length - keep);
    return out;
  }
  /** What was held back, when no token follows. */
  finish() {
    const out = this.held;
    this.held = "";
    return out;
  }
}

// How much of the end of `text` begins `stop`.
function overlap(text, stop) {
  for (let size = Math.min(text.length, stop.length - 1); size > 0; --size) {
    if (text.endsWith(stop.slice(0, size))) return size;
  }
  return 0;
}

const ROUNDS = 4;

/** Notices that the last `tokens` tokens are one cycle, gone through four times and more. */
export class LoopGuard {
  constructor(tokens) {
    this.tokens = tokens;
    this.longest = Math.floor(tokens / ROUNDS);
    this.recent = new Int32Array(this.longest);
    this.agreed = new Int32Array(this.longest);
    this.count = 0;
  }
  push(token) {
    const { longest, recent, agreed, count, tokens } = this;
    if (longest === 0) return false;
    let found = false;
    for (let p = 1; p <= longest; ++p) {
      const same = count >= p && recent[(count - p) % longest] === token;
      agreed[p - 1] = same ? Math.min(agreed[p - 1] + 1, tokens) : 0;
      if (agreed[p - 1] + p >= tokens) found = true;
    }
    recent[count % longest] = token;
    this.count = count + 1;
    return found;
  }
}
