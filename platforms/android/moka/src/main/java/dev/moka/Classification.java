package dev.moka;

/** A class and how likely it is. */
public final class Classification {
  /** The likeliest class, the first of equal ones. */
  public final int best;
  /** Its name. */
  public final String label;
  /** [classes], 1 together. */
  public final float[] probabilities;
  /** [classes] */
  public final float[] logits;

  Classification(int best, String label, float[] probabilities, float[] logits) {
    this.best = best;
    this.label = label;
    this.probabilities = probabilities;
    this.logits = logits;
  }
}
