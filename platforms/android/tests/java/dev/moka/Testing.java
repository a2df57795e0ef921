package dev.moka;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;
import static org.junit.Assert.fail;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What the tests share: the models, the command, small models of other kinds. */
final class Testing {
  static final Path TREE = Path.of(System.getProperty("moka.tree"));
  static final String COMMAND = System.getProperty("moka.command");
  static final String STORIES = TREE.resolve("models/stories.moka").toString();
  static final String LISTOPS = TREE.resolve("models/listops.moka").toString();
  static final String FORECASTER = TREE.resolve("models/forecaster.moka").toString();

  /** A character of two UTF-16 units and four bytes. */
  static final String EMOJI = new String(Character.toChars(0x1F600));

  private Testing() {}

  /** stdout of the command `moka`. */
  static byte[] command(String... arguments) {
    try {
      List<String> line = new ArrayList<>(List.of(COMMAND));
      line.addAll(List.of(arguments));
      File err = File.createTempFile("moka", ".err");
      Process process = new ProcessBuilder(line).redirectError(err).start();
      process.getOutputStream().close();
      byte[] out = process.getInputStream().readAllBytes();
      String words = process.waitFor() == 0 ? "" : Files.readString(err.toPath());
      assertTrue(err.delete());
      assertEquals("moka " + Arrays.toString(arguments) + ": " + words, 0, process.exitValue());
      return out;
    } catch (IOException | InterruptedException failure) {
      throw new AssertionError(failure);
    }
  }

  static String text(byte[] bytes) {
    return new String(bytes, StandardCharsets.UTF_8);
  }

  /** A program of Java with the classes and the library of this one. */
  static Process java(List<String> options, String... arguments) throws IOException {
    List<String> line = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java"));
    line.add("-Djava.library.path=" + System.getProperty("java.library.path"));
    line.add("-Dmoka.tree=" + TREE);
    line.add("-Dmoka.command=" + COMMAND);
    line.addAll(options);
    line.addAll(List.of(arguments));
    return new ProcessBuilder(line).directory(TREE.toFile()).redirectErrorStream(true).start();
  }

  interface Action {
    void run() throws Exception;
  }

  /** What the action throws, of this very class and with the words in its message. */
  static <T extends Throwable> T thrown(Class<T> kind, String words, Action action) {
    try {
      action.run();
    } catch (Throwable found) {
      assertEquals(found.toString(), kind, found.getClass());
      assertTrue(found.toString(), String.valueOf(found.getMessage()).contains(words));
      return kind.cast(found);
    }
    fail("nothing was thrown, not " + kind);
    return null;
  }

  /** A small model that reads and writes bytes, with random weights. */
  static File small(File folder) {
    File model = new File(folder, "small.moka");
    command("convert", TREE.resolve("tests/data/hf/macchiato_width43_tied").toString(), "-o",
        model.getPath());
    return model;
  }

  /** The same body with another head, that takes no more tensors. */
  static File small(File folder, String name, String keys) throws IOException {
    Path from = TREE.resolve("tests/data/hf/macchiato_width43_tied");
    Path source = Files.createDirectory(folder.toPath().resolve(name));
    String config = Files.readString(from.resolve("config.json"));
    config = config.replace("\"tie_word_embeddings\": true", keys);
    Files.writeString(source.resolve("config.json"), config);
    Files.copy(from.resolve("model.safetensors"), source.resolve("model.safetensors"));
    File model = new File(folder, name + ".moka");
    command("convert", source.toString(), "-o", model.getPath());
    return model;
  }

  /** The float32 numbers of a NumPy file, in order. */
  static float[] readNpy(Path file) throws IOException {
    ByteBuffer data = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    int header = data.getShort(8);
    byte[] words = new byte[header];
    data.position(10);
    data.get(words);
    String text = text(words);
    assertTrue(text, text.contains("'descr': '<f4'") && text.contains("'fortran_order': False"));
    Matcher shape = Pattern.compile("'shape': \\(([0-9, ]*)\\)").matcher(text);
    assertTrue(text, shape.find());
    int count = 1;
    for (String extent : shape.group(1).split(",")) {
      if (!extent.isBlank()) count *= Integer.parseInt(extent.strip());
    }
    float[] values = new float[count];
    data.slice().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values);
    return values;
  }

  /** int32 [ids.length] as a NumPy file. */
  static void writeNpy(Path file, int[] ids) throws IOException {
    StringBuilder header = new StringBuilder();
    header.append("{'descr': '<i4', 'fortran_order': False, 'shape': (");
    header.append(ids.length).append(",), }");
    while ((header.length() + 11) % 64 != 0) header.append(' ');
    header.append('\n');
    ByteBuffer data = ByteBuffer.allocate(10 + header.length() + 4 * ids.length);
    data.order(ByteOrder.LITTLE_ENDIAN);
    data.put(new byte[] {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0});
    data.putShort((short) header.length());
    data.put(header.toString().getBytes(StandardCharsets.US_ASCII));
    for (int id : ids) data.putInt(id);
    Files.write(file, data.array());
  }

  /** Numbers of equal bits. */
  static void assertSameBits(float[] expected, float[] found) {
    assertEquals(expected.length, found.length);
    for (int i = 0; i < expected.length; ++i) {
      if (Float.floatToRawIntBits(expected[i]) != Float.floatToRawIntBits(found[i])) {
        fail("number " + i + " is " + found[i] + ", not " + expected[i]);
      }
    }
  }

  /** Whether a text has halves of characters. */
  static boolean isWhole(String text) {
    for (int i = 0; i < text.length(); ++i) {
      if (!Character.isSurrogate(text.charAt(i))) continue;
      boolean pair =
          i + 1 < text.length() && Character.isSurrogatePair(text.charAt(i), text.charAt(i + 1));
      if (!pair) return false;
      ++i;
    }
    return true;
  }

  /** Bytes of memory that this process has. */
  static long memory() throws IOException {
    return 4096 * Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]);
  }
}
