package dev.moka;

/**
 * Threads that run a model; made by {@link Model#newExecutor}. Any number of threads may use it; calls on
 * one wait for each other, so make more to run side by side. They share the weights.
 */
public final class ModelExecutor implements AutoCloseable {
  final Handle handle;

  ModelExecutor(Handle handle) {
    this.handle = handle.of(this);
  }

  public int threads() {
    long executor = handle.enter();
    try {
      return Native.executorThreads(executor);
    } finally {
      handle.leave();
    }
  }

  public long scratchBytes() {
    long executor = handle.enter();
    try {
      return Native.executorScratchBytes(executor);
    } finally {
      handle.leave();
    }
  }

  /** Sessions that were made with it go on. */
  @Override
  public void close() {
    handle.close();
  }
}
