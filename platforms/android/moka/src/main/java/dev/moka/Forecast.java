package dev.moka;

/** The steps that follow a series, in the units of the data. */
public final class Forecast {
  public final int steps;
  /** Numbers per step. */
  public final int outputs;
  /** Quantiles of each number, at the levels {@link ModelInfo#quantiles}; 1 when it is the mean. */
  public final int quantiles;
  /** [steps][outputs][quantiles] */
  public final float[] values;

  Forecast(int steps, int outputs, int quantiles, float[] values) {
    this.steps = steps;
    this.outputs = outputs;
    this.quantiles = quantiles;
    this.values = values;
  }

  public float at(int step, int output, int quantile) {
    if (step < 0 || step >= steps || output < 0 || output >= outputs || quantile < 0
        || quantile >= quantiles) {
      throw new MokaException.OutOfRange(
          "there is no [" + step + "][" + output + "][" + quantile + "] in [" + steps + "][" + outputs
              + "][" + quantiles + "]");
    }
    return values[(step * outputs + output) * quantiles + quantile];
  }
}
