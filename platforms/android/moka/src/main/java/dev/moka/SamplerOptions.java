package dev.moka;

import java.util.Map;
import java.util.Random;
import java.util.TreeMap;

/** How tokens are drawn; what is not said is as the author of the model recommends. */
public final class SamplerOptions {
  // The order and the bits are those of Sampling in bridge.cc.
  private static final int TEMPERATURE = 1;
  private static final int TOP_P = 2;
  private static final int MIN_P = 4;
  private static final int REPEAT_PENALTY = 8;
  private static final int TOP_K = 16;
  private static final int REPEAT_WINDOW = 32;

  private final float[] numbers = new float[4];
  private final long[] counts = new long[2];
  private final Map<Integer, Float> bias = new TreeMap<>();
  private int given;
  private Long seed;

  /** 0: always the likeliest token, the lowest id of equal ones. */
  public SamplerOptions temperature(float temperature) {
    given |= TEMPERATURE;
    numbers[0] = temperature;
    return this;
  }

  /** Draw from the fewest that have this probability together; 1: from all. */
  public SamplerOptions topP(float topP) {
    given |= TOP_P;
    numbers[1] = topP;
    return this;
  }

  /** Draw from those that are at least minP times as likely as the likeliest. */
  public SamplerOptions minP(float minP) {
    given |= MIN_P;
    numbers[2] = minP;
    return this;
  }

  /** Above 1 makes recent tokens less likely. */
  public SamplerOptions repeatPenalty(float penalty) {
    given |= REPEAT_PENALTY;
    numbers[3] = penalty;
    return this;
  }

  /** Draw from the k likeliest; 0: from all. */
  public SamplerOptions topK(int k) {
    given |= TOP_K;
    counts[0] = Check.atLeast(0, k, "topK");
    return this;
  }

  /** How many tokens are recent. */
  public SamplerOptions repeatWindow(int tokens) {
    given |= REPEAT_WINDOW;
    counts[1] = Check.atLeast(0, tokens, "repeatWindow");
    return this;
  }

  /** Equal scores, options and seed draw equal tokens on every platform. Not said: a random one each time. */
  public SamplerOptions seed(long seed) {
    this.seed = seed;
    return this;
  }

  /** Added to the score of a token; negative infinity bans it. */
  public SamplerOptions bias(int token, float added) {
    bias.put(token, added);
    return this;
  }

  /** As they are now, in the form of native code. */
  Packed pack() {
    return new Packed(this);
  }

  static final class Packed {
    final int given;
    final float[] numbers;
    final long[] counts;
    final int[] biasTokens;
    final float[] bias;

    Packed(SamplerOptions options) {
      given = options.given;
      numbers = options.numbers.clone();
      long seed = options.seed == null ? new Random().nextInt() & 0xffffffffL : options.seed;
      counts = new long[] {options.counts[0], options.counts[1], seed};
      biasTokens = new int[options.bias.size()];
      bias = new float[biasTokens.length];
      int i = 0;
      for (Map.Entry<Integer, Float> entry : options.bias.entrySet()) {
        biasTokens[i] = entry.getKey();
        bias[i++] = entry.getValue();
      }
    }

    long seed() {
      return counts[2];
    }
  }
}
