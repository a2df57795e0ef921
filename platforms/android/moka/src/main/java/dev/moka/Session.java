package dev.moka;

import java.io.File;

/**
 * One sequence that a model reads and writes, with a state of constant size; made by {@link
 * Model#newSession}.
 *
 * <p>One thread at a time, no matter which; a second one gets an {@link IllegalStateException}. {@link
 * #cancel} and {@link #close} come from any thread. A call that fails or is cancelled leaves the session as
 * it was; generate() and reply() say themselves what they keep.
 */
public final class Session implements AutoCloseable {
  private static final int FIRST_ROOM = 1 << 16;

  private final Model model;
  private final Handle handle;
  private int room = FIRST_ROOM; // of what save() gave last

  Session(Model model, long pointer) {
    this.model = model;
    handle = new Handle(Handle.Kind.SESSION, pointer, model.handle, model.info().features).of(this);
  }

  public Model model() {
    return model;
  }

  // ---- reading ----

  /**
   * Reads a text. Where nothing was read yet, a language model reads {@link ModelInfo#startToken} before it,
   * as `moka run` does.
   */
  public void append(String text) {
    append(Input.text(text));
  }

  /** Reads ids, as they are. */
  public void append(int... tokens) {
    append(Input.tokens(tokens));
  }

  /**
   * Reads on.
   *
   * @throws MokaException.OutOfRange a token outside the vocabulary, or beyond positionLimit
   * @throws MokaException.InvalidArgument not what this model reads
   */
  public void append(Input input) {
    long session = handle.begin();
    try {
      Native.sessionAppend(session, steps(session, input), input.numbers());
    } finally {
      handle.leave();
    }
  }

  /** The same, and gives the output after every step: [steps][{@link ModelInfo#outputs}]. */
  public float[] appendRows(Input input) {
    long session = handle.begin();
    try {
      return Native.sessionAppendRows(
          session, model.info().outputs, steps(session, input), input.numbers());
    } finally {
      handle.leave();
    }
  }

  /** Reads the sequence that the model answers from, if {@link ModelInfo#readsMemory}; before all else. */
  public void appendMemory(Input input) {
    long session = handle.begin();
    try {
      Native.sessionAppendMemory(session, input.ids(model.handle.kept()), input.numbers());
    } finally {
      handle.leave();
    }
  }

  private int[] steps(long session, Input input) {
    int[] tokens = input.ids(model.handle.kept());
    int start = model.info().startToken();
    boolean begins =
        input.isText()
            && start >= 0
            && model.info().output == ModelInfo.Out.LANGUAGE
            && Native.sessionPosition(session) == 0;
    if (!begins) return tokens;
    int[] all = new int[tokens.length + 1];
    all[0] = start;
    System.arraycopy(tokens, 0, all, 1, tokens.length);
    return all;
  }

  // ---- writing ----

  /** The output for everything read so far, [{@link ModelInfo#outputs}]; empty where nothing was read. */
  public float[] logits() {
    long session = handle.enter();
    try {
      return Native.sessionLogits(session);
    } finally {
      handle.leave();
    }
  }

  /**
   * Draws a token, reads it, and gives it.
   *
   * @throws MokaException.FailedPrecondition before anything was read
   */
  public int step(Sampler sampler) {
    long session = handle.begin();
    try {
      long draws = sampler.handle.enter();
      try {
        return Native.sessionStep(session, draws);
      } finally {
        sampler.handle.leave();
      }
    } finally {
      handle.leave();
    }
  }

  /**
   * Writes token after token. A token is read or it is not: after cancel() ({@link
   * MokaException.Cancelled}), an error or an exception of the listener, session and sampler stand behind
   * the last whole token.
   *
   * @param listener gets the text as it comes; may be null
   * @throws MokaException.Unsupported no language model with a tokenizer
   * @throws MokaException.FailedPrecondition nothing was read before
   */
  public GenerateResult generate(GenerateOptions options, Sampler sampler, TextListener listener) {
    long session = handle.begin();
    try {
      long draws = sampler.handle.enter();
      try {
        return write(session, draws, options, listener);
      } finally {
        sampler.handle.leave();
      }
    } finally {
      handle.leave();
    }
  }

  /**
   * Reads the prompt, as append() does, and writes on with a sampler of its own, which knows the prompt for
   * the repeat penalty.
   *
   * @param prompt null: nothing
   * @param sampling null: as the author of the model recommends
   * @param listener gets the text as it comes; may be null
   */
  public GenerateResult reply(
      String prompt, GenerateOptions options, SamplerOptions sampling, TextListener listener) {
    long session = handle.begin();
    try {
      SamplerOptions.Packed packed = (sampling == null ? new SamplerOptions() : sampling).pack();
      try (Sampler sampler = model.keptSampler(packed)) {
        if (prompt != null) {
          int[] tokens = steps(session, Input.text(prompt));
          // Of a reply that cannot begin the prompt is not read.
          Native.sessionCheckGenerate(
              session,
              options.numbers(),
              options.stopTokens(),
              options.stopTexts(),
              options.lookupTokens());
          Native.sessionAppend(session, tokens, null);
          sampler.accept(tokens);
        }
        long draws = sampler.handle.enter();
        try {
          return write(session, draws, options, listener);
        } finally {
          sampler.handle.leave();
        }
      }
    } finally {
      handle.leave();
    }
  }

  private static GenerateResult write(
      long session, long sampler, GenerateOptions options, TextListener listener) {
    return new GenerateResult(
        Native.sessionGenerate(
            session,
            sampler,
            options.numbers(),
            options.stopTokens(),
            options.stopTexts(),
            options.lookupTokens(),
            listener));
  }

  /**
   * Ends the running call with {@link MokaException.Cancelled} at its next token or chunk; if none is
   * running, does nothing. Any thread, listeners too.
   */
  public void cancel() {
    handle.cancel();
  }

  // ---- places ----

  /** Tokens that were read. */
  public long position() {
    long session = handle.enter();
    try {
      return Native.sessionPosition(session);
    } finally {
      handle.leave();
    }
  }

  public long memoryPosition() {
    long session = handle.enter();
    try {
      return Native.sessionMemoryPosition(session);
    } finally {
      handle.leave();
    }
  }

  /** An independent copy; costs a copy of the state. */
  public Session fork() {
    long session = handle.enter();
    try {
      return new Session(model, Native.sessionFork(session));
    } finally {
      handle.leave();
    }
  }

  /** Goes to where nothing was read. */
  public void reset() {
    long session = handle.enter();
    try {
      Native.sessionReset(session);
    } finally {
      handle.leave();
    }
  }

  /** The session as bytes, which are the same on every platform. */
  public byte[] save() {
    long session = handle.enter();
    try {
      byte[] saved = Native.sessionSave(session, room);
      room = Math.max(FIRST_ROOM, saved.length);
      return saved;
    } finally {
      handle.leave();
    }
  }

  /**
   * What {@link #save} gave; all that follows has the bits that it would have had.
   *
   * @throws MokaException.Corrupt damaged bytes
   * @throws MokaException.FailedPrecondition of another model
   */
  public void restore(byte[] state) {
    long session = handle.enter();
    try {
      Native.sessionRestore(session, Check.notNull(state, "state"));
    } finally {
      handle.leave();
    }
  }

  /** The same in a file, which is written under another name, synced and renamed. */
  public void saveFile(File file) {
    long session = handle.enter();
    try {
      Native.sessionSaveFile(session, Utf8.path(file));
    } finally {
      handle.leave();
    }
  }

  /** What {@link #saveFile} wrote. */
  public void restoreFile(File file) {
    long session = handle.enter();
    try {
      Native.sessionRestoreFile(session, Utf8.path(file));
    } finally {
      handle.leave();
    }
  }

  /**
   * Becomes a session that has read the prefix of a snapshot of the model, without reading. Where many
   * sessions begin there, restore one and fork it.
   *
   * @throws MokaException.NotFound names the snapshots that there are
   * @throws MokaException.FailedPrecondition it was made with other weights
   */
  public void restoreSnapshot(String name) {
    long session = handle.enter();
    try {
      Native.sessionRestoreSnapshot(session, Utf8.name(Check.notNull(name, "name"), "name"));
    } finally {
      handle.leave();
    }
  }

  /** Ends a running call as {@link #cancel} does, and returns at once. Can be repeated. */
  @Override
  public void close() {
    handle.close();
  }
}
