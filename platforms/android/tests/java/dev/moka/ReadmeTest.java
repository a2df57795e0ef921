package dev.moka;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.w3c.dom.Document;

/** What README.md says works; and the files of the Android project, as far as they can be looked at. */
public final class ReadmeTest {
  private static final Path ANDROID = Testing.TREE.resolve("platforms/android");

  @Rule public final TemporaryFolder folder = new TemporaryFolder();

  private static String read(String path) throws IOException {
    return Files.readString(ANDROID.resolve(path));
  }

  private static List<String> found(String pattern, String text) {
    List<String> all = new ArrayList<>();
    Matcher matcher = Pattern.compile(pattern, Pattern.DOTALL).matcher(text);
    while (matcher.find()) all.add(matcher.group(1));
    return all;
  }

  @Test
  public void theFirstLines() throws Exception {
    List<String> blocks = found("<!-- test -->\n```java\n(.*?)```", read("README.md"));
    assertEquals(1, blocks.size());
    Path source = folder.getRoot().toPath().resolve("Story.java");
    Files.writeString(source, blocks.get(0));
    String path = System.getProperty("java.class.path");
    assertEquals(
        0,
        ToolProvider.getSystemJavaCompiler()
            .run(null, null, null, "--release", "8", "-Xlint:-options", "-cp", path, source + ""));
    Process process =
        Testing.java(List.of("-cp", folder.getRoot() + ":" + path), "Story");
    String out = Testing.text(process.getInputStream().readAllBytes());
    assertEquals(out, 0, process.waitFor());
    String told =
        Testing.text(
            Testing.command(
                "run", Testing.STORIES, "-p", "Once upon a time", "-n", "60", "--temperature",
                "0.8", "--seed", "3"));
    String[] lines = out.split("\n");
    assertEquals("4", lines[lines.length - 1]);
    assertEquals(told, "Once upon a time" + out.substring(0, out.lastIndexOf("\n4\n") + 1));
  }

  @Test
  public void everyNameInTheTableIsThere() throws Exception {
    for (String row : read("README.md").split("\n")) {
      Matcher cells = Pattern.compile("^\\| `([A-Z]\\w+)` \\| (.*) \\|$").matcher(row);
      if (!cells.find()) continue;
      Class<?> kind = Class.forName("dev.moka." + cells.group(1));
      for (String name : found("`([a-z]\\w+)", cells.group(2))) {
        boolean there = false;
        for (var method : kind.getMethods()) there = there || method.getName().equals(name);
        for (var field : kind.getFields()) there = there || field.getName().equals(name);
        assertTrue(kind + " has no " + name, there);
      }
    }
  }

  private static Document xml(String path) throws Exception {
    return DocumentBuilderFactory.newInstance()
        .newDocumentBuilder()
        .parse(ANDROID.resolve(path).toFile());
  }

  @Test
  public void theSamplesFilesFitTogether() throws Exception {
    xml("moka/src/main/AndroidManifest.xml");
    Document manifest = xml("sample/src/main/AndroidManifest.xml");
    String activity =
        manifest.getElementsByTagName("activity").item(0).getAttributes()
            .getNamedItem("android:name").getNodeValue();
    String java = read("sample/src/main/java/dev/moka/sample" + activity.replace('.', '/') + ".java");
    xml("sample/src/main/res/layout/story.xml");
    String layout = read("sample/src/main/res/layout/story.xml");
    for (String id : found("R\\.id\\.(\\w+)", java)) {
      assertTrue(id, layout.contains("\"@+id/" + id + "\""));
    }
    assertEquals(List.of("story"), found("R\\.layout\\.(\\w+)", java));
    String strings = read("sample/src/main/res/values/strings.xml");
    xml("sample/src/main/res/values/strings.xml");
    String users = layout + read("sample/src/main/AndroidManifest.xml");
    for (String name : found("@string/(\\w+)", users)) {
      assertTrue(name, strings.contains("name=\"" + name + "\""));
    }
  }

  @Test
  public void whatNativeCodeNamesIsKept() throws Exception {
    String rules = read("moka/consumer-rules.pro");
    String native_ = read("jni/bridge.h") + read("jni/bridge.cc") + read("jni/load.cc");
    List<String> names = found("[\"L(]dev/moka/(\\w+)", native_);
    assertTrue(names.size() > 6);
    for (String name : names) {
      assertTrue(name, Pattern.compile("-keep \\w+ dev\\.moka\\." + name + " \\{ \\*; \\}").matcher(rules).find());
    }
  }

  @Test
  public void theBuildFileNamesWhatIsThere() throws Exception {
    String build = read("moka/build.gradle");
    String cmake = read("jni/CMakeLists.txt");
    assertEquals(List.of("../jni/CMakeLists.txt"), found("path '([^']*)'", build));
    assertTrue(cmake.contains("add_library(moka_jni SHARED"));
    assertTrue(build.contains("targets 'moka_jni', 'moka_c'"));
    assertTrue(Files.exists(ANDROID.resolve("moka").resolve(found("headers '([^']*)'", build).get(0)).resolve("moka.h")));
    assertTrue(Files.exists(ANDROID.resolve("moka").resolve(found("file\\('([^']*)'\\)", build).get(0))));
    assertTrue(Files.exists(ANDROID.resolve("sample").resolve(found("from '([^']*)'", read("sample/build.gradle")).get(0))));
    for (String part : new String[] {"minSdk 24", "'arm64-v8a', 'x86_64'", "prefabPublishing true"}) {
      assertTrue(part, build.contains(part));
    }
  }
}
