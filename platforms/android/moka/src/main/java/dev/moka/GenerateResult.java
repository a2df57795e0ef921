package dev.moka;

/** What was written. */
public final class GenerateResult {
  public final End end;
  /** Written and read. */
  public final long tokens;
  /** Guesses that were tried, and that came true: 0 without {@link GenerateOptions#lookup}. */
  public final long drafted;

  public final long accepted;

  GenerateResult(long[] numbers) {
    end = End.of(numbers[0]);
    tokens = numbers[1];
    drafted = numbers[2];
    accepted = numbers[3];
  }
}
