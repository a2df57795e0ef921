// What goes wrong has a code to branch on and a message for people.

/** An error of Moka. */
export class MokaError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "MokaError";
    this.code = code;
  }
}

export const failed = (code, message) => new MokaError(code, message);

// What `reason` of an AbortSignal is thrown as.
export function abortReason(signal) {
  return signal.reason ?? new DOMException("The operation was aborted.", "AbortError");
}
