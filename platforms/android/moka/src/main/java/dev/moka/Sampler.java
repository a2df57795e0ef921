package dev.moka;

/**
 * Draws tokens from scores; made by {@link Model#newSampler}. Its generator and the tokens that it takes for
 * recent go on from call to call. One thread at a time, no matter which.
 */
public final class Sampler implements AutoCloseable {
  final Handle handle;
  private final long seed;

  Sampler(Handle handle, long seed) {
    this.handle = handle.of(this);
    this.seed = seed;
  }

  /** What the draws began from. */
  public long seed() {
    return seed;
  }

  /**
   * Draws from [{@link ModelInfo#outputs}] scores, such as {@link Session#logits}.
   *
   * @throws MokaException.FailedPrecondition all are banned
   * @throws MokaException.InvalidArgument a NaN, or another number of scores
   */
  public int sample(float[] logits) {
    long sampler = handle.enter();
    try {
      return Native.samplerSample(sampler, Check.notNull(logits, "logits"));
    } finally {
      handle.leave();
    }
  }

  /** Tells of tokens that were not drawn here, such as those of a prompt, for the repeat penalty. */
  public void accept(int... tokens) {
    long sampler = handle.enter();
    try {
      Native.samplerAccept(sampler, tokens);
    } finally {
      handle.leave();
    }
  }

  /** Forgets recent tokens and starts again from the seed. */
  public void reset() {
    long sampler = handle.enter();
    try {
      Native.samplerReset(sampler);
    } finally {
      handle.leave();
    }
  }

  /** Generator and recent tokens. */
  public byte[] save() {
    long sampler = handle.enter();
    try {
      return Native.samplerSave(sampler);
    } finally {
      handle.leave();
    }
  }

  /**
   * What {@link #save} gave, into a sampler of equal options.
   *
   * @throws MokaException.Corrupt anything else
   */
  public void restore(byte[] state) {
    long sampler = handle.enter();
    try {
      Native.samplerRestore(sampler, Check.notNull(state, "state"));
    } finally {
      handle.leave();
    }
  }

  @Override
  public void close() {
    handle.close();
  }
}
