package dev.moka;

/** Hears of the reading that a chat does. */
public interface ChatProgress {
  /**
   * Called before tokens are read, with done 0, and every few of them, by the thread that made the call.
   *
   * @param again whether they were read before, and their state was let go
   * @return whether the call goes on; false ends it with {@link MokaException.Cancelled}, and the chat is
   *     as it was. What this throws ends it too, and comes out of the call.
   */
  boolean onProgress(long done, long total, boolean again);
}
