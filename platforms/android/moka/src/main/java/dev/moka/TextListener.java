package dev.moka;

/** Gets text as it is written. */
public interface TextListener {
  /**
   * Some text, in whole characters. It is called by the thread that generates, and must not use the same
   * session, sampler or chat, except for cancel() and close().
   *
   * @return whether the writing goes on; false ends it, without an exception. What this throws ends it
   *     too, and comes out of the call.
   */
  boolean onText(String text);
}
