package dev.moka;

/**
 * A prefix that the file of a model ships already read, so that sessions and chats begin behind it at once:
 * {@link Session#restoreSnapshot}, {@link ChatOptions#from}.
 */
public final class Snapshot {
  public final String name;
  /** What was read. */
  public final String text;
  /** False: it was made with other weights, or does not say which tokens were read. */
  public final boolean usable;
  /** Tokens that were read. */
  public final long position;
  /** Of its state in the file. */
  public final long bytes;

  Snapshot(String name, String text, boolean usable, long position, long bytes) {
    this.name = name;
    this.text = text;
    this.usable = usable;
    this.position = position;
    this.bytes = bytes;
  }
}
