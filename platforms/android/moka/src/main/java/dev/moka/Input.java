package dev.moka;

/** What a model reads: text, ids of tokens, or numbers. It holds on to the arrays, which must not change. */
public final class Input {
  private final String text;
  private final int[] tokens;
  private final float[] values;

  private Input(String text, int[] tokens, float[] values) {
    this.text = text;
    this.tokens = tokens;
    this.values = values;
  }

  /** For models with a tokenizer. Special tokens in it are plain text; no token is put before or behind. */
  public static Input text(String text) {
    return new Input(Check.notNull(text, "text"), null, null);
  }

  /** Ids, 0 to {@link ModelInfo#vocabSize} - 1. */
  public static Input tokens(int... tokens) {
    return new Input(null, Check.notNull(tokens, "tokens"), null);
  }

  /** [steps][{@link ModelInfo#features}] in the units of the data, or grey values row by row. */
  public static Input values(float... values) {
    return new Input(null, null, Check.notNull(values, "values"));
  }

  boolean isText() {
    return text != null;
  }

  /** The ids; null when these are numbers. */
  int[] ids(long model) {
    return text == null ? tokens : Native.tokenize(model, Utf8.bytes(text, "text"), false);
  }

  /** The numbers; null when these are tokens. */
  float[] numbers() {
    return values;
  }
}
