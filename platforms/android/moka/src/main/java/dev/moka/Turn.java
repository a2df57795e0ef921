package dev.moka;

/** A turn of a chat, as it was when it was asked for. */
public final class Turn {
  /** From 1, rising; none is used twice. */
  public final long id;
  /** Of the turn before it; {@link Chat#START} for first turns. */
  public final long parent;

  public final Role role;
  /** As it was given, or what the model wrote. */
  public final String text;
  /** Why the model's writing ended; NONE of a text that was given. */
  public final End end;
  /** Going to it has nothing to read again. */
  public final boolean kept;
  /** Tokens from the start of the chat to the end of this turn. */
  public final long position;
  /** All that were read: templateHead, those of the text, templateTail. */
  public final int[] tokens;

  public final int templateHead;
  public final int templateTail;

  /** The order is that of turn_numbers() in chat.cc. */
  Turn(long[] numbers, byte[] text, int[] tokens) {
    role = Role.values()[(int) numbers[0]];
    end = End.of(numbers[1]);
    kept = numbers[2] != 0;
    id = numbers[3];
    parent = numbers[4];
    position = numbers[5];
    templateHead = (int) numbers[6];
    templateTail = (int) numbers[7];
    this.text = Utf8.text(text);
    this.tokens = tokens;
  }
}
