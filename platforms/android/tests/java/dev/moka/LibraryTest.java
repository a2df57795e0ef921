package dev.moka;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;
import static org.junit.Assert.fail;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeSet;
import org.junit.Test;

/** The files of the libraries, and the native methods under Java's own checks. */
public final class LibraryTest {
  private static String output(String... line) throws IOException, InterruptedException {
    Process process = new ProcessBuilder(line).redirectErrorStream(true).start();
    String out = Testing.text(process.getInputStream().readAllBytes());
    assertEquals(Arrays.toString(line) + ": " + out, 0, process.waitFor());
    return out;
  }

  private static String library(String name) {
    Path folder = Path.of(System.getProperty("java.library.path"));
    return folder.resolve(name).toString();
  }

  private static final String JNI = library("libmoka_jni.so");
  private static final String C = library("moka/libmoka.so");

  /** Names of functions and variables that it exports, without the name of a version. */
  private static TreeSet<String> exports(String library) throws Exception {
    TreeSet<String> names = new TreeSet<>();
    for (String line : output("nm", "-D", "--defined-only", library).split("\n")) {
      String[] cells = line.split(" ");
      if (!cells[1].equals("A")) names.add(cells[2].replaceAll("@.*", ""));
    }
    return names;
  }

  @Test
  public void jniOnLoadIsAllThatIsExported() throws Exception {
    assertEquals(new TreeSet<>(List.of("JNI_OnLoad")), exports(JNI));
    Path symbols = Testing.TREE.resolve("platforms/capi/moka.symbols");
    assertEquals(new TreeSet<>(Files.readAllLines(symbols)), exports(C));
  }

  @Test
  public void segmentsAreAlignedToPagesOf16Kilobytes() throws Exception {
    for (String library : new String[] {JNI, C}) {
      int found = 0;
      for (String line : output("readelf", "-lW", library).split("\n")) {
        if (!line.strip().startsWith("LOAD")) continue;
        ++found;
        assertTrue(line, line.strip().endsWith("0x4000"));
      }
      assertTrue(found >= 2);
    }
  }

  @Test
  public void onlyTheSystemIsNeeded() throws Exception {
    for (String line : output("readelf", "-dW", JNI).split("\n")) {
      if (!line.contains("(NEEDED)")) continue;
      String name = line.replaceAll(".*\\[(.*)\\].*", "$1");
      // On Android libc++ is inside; here the system's library of C++ takes its place.
      boolean system =
          List.of("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1").contains(name)
              || name.startsWith("ld-linux");
      assertTrue(line, system);
    }
  }

  @Test
  public void aHundredThousandCallsUnderXcheckJni() throws Exception {
    Process process =
        Testing.java(
            List.of("-Xcheck:jni", "-cp", System.getProperty("java.class.path")),
            "dev.moka.CheckedCalls",
            "100000");
    List<String> bad = new ArrayList<>();
    String last = "";
    for (String line : Testing.text(process.getInputStream().readAllBytes()).split("\n")) {
      if (line.contains("WARNING") || line.contains("FATAL") || line.contains("rror")) bad.add(line);
      last = line;
    }
    int status = process.waitFor();
    if (!bad.isEmpty()) fail(String.join("\n", bad));
    assertEquals(last, 0, status);
    assertTrue(last, last.matches("[0-9]+ calls"));
    assertTrue(last, Integer.parseInt(last.split(" ")[0]) >= 100_000);
    System.out.println("-Xcheck:jni: " + last + " without a warning");
  }
}
