package dev.moka;

/** How long is written, and what stops it. */
public final class GenerateOptions {
  private final long[] numbers = {1, 512, 0, 256, 0};
  private int[] stopTokens = {};
  private String[] stopTexts = {};
  private int[] lookupTokens = {};

  /** At least 1; default 512; in a chat at most 2^30. */
  public GenerateOptions maxTokens(long tokens) {
    numbers[1] = Check.atLeast(1, tokens, "maxTokens");
    return this;
  }

  /** Milliseconds; 0, the default: no limit. */
  public GenerateOptions maxMs(long milliseconds) {
    numbers[2] = Check.atLeast(0, milliseconds, "maxMs");
    return this;
  }

  /** Whether the tokens that begin and end texts stop it; the default is true. */
  public GenerateOptions stopAtEnd(boolean stops) {
    numbers[0] = stops ? 1 : 0;
    return this;
  }

  /** More tokens that stop it. */
  public GenerateOptions stopTokens(int... tokens) {
    stopTokens = tokens.clone();
    return this;
  }

  /** Texts that stop it and are not given out, each of 1 to 4096 bytes; at most 64. */
  public GenerateOptions stopTexts(String... texts) {
    stopTexts = texts.clone();
    return this;
  }

  /** So many tokens that are one cycle, again and again, end it; 0: never; default 256. */
  public GenerateOptions loopTokens(int tokens) {
    numbers[3] = Check.atLeast(0, tokens, "loopTokens");
    return this;
  }

  /**
   * Guesses that go through the model in one pass with a token, at most 16; 0, the default: none. They are
   * looked up in what is written and before it in `tokens`, such as those that the session has read; chats
   * know theirs themselves. What is written is the same to the bit; text that repeats itself comes faster.
   */
  public GenerateOptions lookup(int guesses, int... tokens) {
    numbers[4] = Check.atLeast(0, guesses, "lookup");
    lookupTokens = tokens.clone();
    return this;
  }

  /** In the order of Writing in bridge.cc. */
  long[] numbers() {
    return numbers.clone();
  }

  int[] stopTokens() {
    return stopTokens;
  }

  byte[][] stopTexts() {
    byte[][] texts = new byte[stopTexts.length][];
    for (int i = 0; i < texts.length; ++i) {
      String name = "stopTexts[" + i + "]";
      texts[i] = Utf8.name(Check.notNull(stopTexts[i], name), name);
    }
    return texts;
  }

  int[] lookupTokens() {
    return lookupTokens;
  }
}
