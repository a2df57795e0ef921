package dev.moka;

/** Why writing ended. */
public enum End {
  /** It did not: this is a text that was given. */
  NONE,
  /** A token that stops it, which was not read. */
  STOP_TOKEN,
  /** Its tokens were read, but neither it nor what follows was given out. */
  STOP_TEXT,
  /** maxTokens. */
  TOKENS,
  /** maxMs. */
  TIME,
  /** The listener. */
  LISTENER,
  /** The model reads no more. */
  POSITION,
  /** The same tokens again and again. */
  LOOP,
  /** A reason that is newer than these classes. */
  OTHER;

  static End of(long number) {
    return number >= 0 && number < OTHER.ordinal() ? values()[(int) number] : OTHER;
  }
}
