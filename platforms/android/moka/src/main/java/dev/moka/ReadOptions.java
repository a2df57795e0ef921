package dev.moka;

/** How a whole sequence is read. */
public final class ReadOptions {
  private ModelExecutor executor;
  private Input memory;
  private Progress progress;

  /** Null, the default: that of the model. */
  public ReadOptions executor(ModelExecutor executor) {
    this.executor = executor;
    return this;
  }

  /** The sequence that the model answers from, if {@link ModelInfo#readsMemory}. */
  public ReadOptions memory(Input memory) {
    this.memory = memory;
    return this;
  }

  /** Hears how much is done; also the way to cancel. */
  public ReadOptions progress(Progress listener) {
    this.progress = listener;
    return this;
  }

  /** As they are now, for one call; the executor is in use until end(). */
  Use use() {
    return new Use(executor, memory, progress);
  }

  static final class Use {
    private final ModelExecutor entered;
    private final Input memory;
    final long executor;
    final Progress progress;

    Use(ModelExecutor executor, Input memory, Progress progress) {
      this.entered = executor;
      this.memory = memory;
      this.progress = progress;
      this.executor = executor == null ? 0 : executor.handle.enter();
    }

    int[] memoryTokens(long model) {
      return memory == null ? null : memory.ids(model);
    }

    float[] memoryValues() {
      return memory == null ? null : memory.numbers();
    }

    void end() {
      if (entered != null) entered.handle.leave();
    }
  }
}
