package dev.moka;

/** Numbers that native code has without a sign. */
final class Check {
  private Check() {}

  static int atLeast(int least, int value, String name) {
    if (value < least) {
      throw new MokaException.InvalidArgument(name + " is " + value + ", must be at least " + least);
    }
    return value;
  }

  static long atLeast(long least, long value, String name) {
    if (value < least) {
      throw new MokaException.InvalidArgument(name + " is " + value + ", must be at least " + least);
    }
    return value;
  }

  static <T> T notNull(T value, String name) {
    if (value == null) throw new MokaException.InvalidArgument(name + " is null");
    return value;
  }
}
