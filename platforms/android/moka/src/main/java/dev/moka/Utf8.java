package dev.moka;

import java.io.File;
import java.nio.charset.Charset;

/** Text as native code has it. */
final class Utf8 {
  private static final Charset CHARSET = Charset.forName("UTF-8");

  private Utf8() {}

  /** Bytes that are no UTF-8 become U+FFFD. */
  static String text(byte[] bytes) {
    return new String(bytes, CHARSET);
  }

  /** The bytes of a text; half of a character is refused, since it has none. */
  static byte[] bytes(String text, String name) {
    for (int i = 0; i < text.length(); ++i) {
      char unit = text.charAt(i);
      if (!Character.isSurrogate(unit)) continue;
      boolean whole =
          Character.isHighSurrogate(unit)
              && i + 1 < text.length()
              && Character.isLowSurrogate(text.charAt(i + 1));
      if (!whole) {
        throw new MokaException.InvalidArgument(
            name + " has half of a surrogate pair at index " + i + ", which is no character");
      }
      ++i;
    }
    return text.getBytes(CHARSET);
  }

  /** The same for what ends with NUL in native code; null stays null. */
  static byte[] name(String text, String name) {
    if (text == null) return null;
    int nul = text.indexOf('\0');
    if (nul >= 0) {
      throw new MokaException.InvalidArgument(name + " has a character NUL at index " + nul);
    }
    return bytes(text, name);
  }

  static byte[] path(File file) {
    return name(file.getPath(), "file");
  }
}
