package dev.moka;

/** Hears how much of a call is done. */
public interface Progress {
  /**
   * Called by the thread that made the call.
   *
   * @param share of the work that is done, 0 to 1
   * @return whether the call goes on; false ends it with {@link MokaException.Cancelled}. What this throws
   *     ends it too, and comes out of the call.
   */
  boolean onProgress(double share);
}
