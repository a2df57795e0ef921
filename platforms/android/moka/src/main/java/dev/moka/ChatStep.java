package dev.moka;

/** What a call on a chat did. */
public final class ChatStep {
  /** The current turn after the call. */
  public final long turn;
  /** New ones, those of the template and those written too. */
  public final long tokensRead;

  public final long tokensReadAgain;
  /** Guesses that were tried, and that came true: 0 without {@link GenerateOptions#lookup}. */
  public final long drafted;

  public final long accepted;

  ChatStep(long[] numbers) {
    turn = numbers[0];
    tokensRead = numbers[1];
    tokensReadAgain = numbers[2];
    drafted = numbers[3];
    accepted = numbers[4];
  }
}
