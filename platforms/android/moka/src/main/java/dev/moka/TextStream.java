package dev.moka;

/**
 * Makes text of tokens as they come, in whole characters; made by {@link Model#newTextStream}. One thread at
 * a time, no matter which.
 */
public final class TextStream implements AutoCloseable {
  private final Handle handle;

  TextStream(Handle handle) {
    this.handle = handle.of(this);
  }

  /** The text that the token completes, which may be none. */
  public String push(int token) {
    long stream = handle.enter();
    try {
      return Utf8.text(Native.streamPush(stream, token));
    } finally {
      handle.leave();
    }
  }

  /** What is left at the end; a character that is not whole becomes U+FFFD. Then it begins afresh. */
  public String finish() {
    long stream = handle.enter();
    try {
      return Utf8.text(Native.streamFinish(stream));
    } finally {
      handle.leave();
    }
  }

  @Override
  public void close() {
    handle.close();
  }
}
