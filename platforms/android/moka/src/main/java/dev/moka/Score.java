package dev.moka;

/** How likely a language model finds a text. */
public final class Score {
  /** Natural logarithm of the probability of all scored tokens together. */
  public final double logLikelihood;
  /** The same, token by token. */
  public final double[] logLikelihoods;
  /** Those that were scored. */
  public final int[] tokens;
  /** The token that the model put in the place of each. */
  public final int[] mostLikely;

  Score(double logLikelihood, double[] logLikelihoods, int[] tokens, int[] mostLikely) {
    this.logLikelihood = logLikelihood;
    this.logLikelihoods = logLikelihoods;
    this.tokens = tokens;
    this.mostLikely = mostLikely;
  }
}
