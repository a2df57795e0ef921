package dev.moka.sample;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import dev.moka.Model;
import java.io.File;
import java.io.IOException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** The sample's story, with a screen of the test's own: all of the app but its activity. */
public final class StoryTest {
  @Rule public final TemporaryFolder folder = new TemporaryFolder();

  private static final class Screen implements Story.Screen {
    final BlockingQueue<String> shown = new LinkedBlockingQueue<>();
    final BlockingQueue<String> added = new LinkedBlockingQueue<>();

    @Override
    public void show(String all) {
      shown.add(all);
    }

    @Override
    public void add(String piece) {
      added.add(piece);
    }

    static String next(BlockingQueue<String> queue) throws InterruptedException {
      String text = queue.poll(60, TimeUnit.SECONDS);
      assertTrue("nothing came", text != null);
      return text;
    }
  }

  private static final String STORIES = System.getProperty("moka.tree") + "/models/stories.moka";

  private Story story(Screen screen) {
    return new Story(
        options -> Model.open(new File(STORIES), options),
        new File(folder.getRoot(), "story.chat"),
        screen);
  }

  @Test
  public void writtenSavedAndRestored() throws Exception {
    Screen screen = new Screen();
    Story story = story(screen);
    story.open(); // onStart
    assertEquals("", Screen.next(screen.shown));
    story.write("There was a king");
    StringBuilder all = new StringBuilder(Screen.next(screen.added));
    assertEquals("There was a king", all.toString());
    for (int i = 0; i < 5; ++i) all.append(Screen.next(screen.added));
    story.save(); // onStop, in the middle of the writing
    story.open(); // onStart again: the story is still there
    String kept = Screen.next(screen.shown);
    assertTrue(kept, kept.startsWith(all.toString()));
    story.close(); // onDestroy

    Screen later = new Screen();
    Story restored = story(later);
    restored.open();
    assertEquals(kept, Screen.next(later.shown));
    restored.write("");
    Screen.next(later.added);
    restored.undo(); // of what is being written
    assertEquals(kept, Screen.next(later.shown));
    restored.undo();
    assertEquals("There was a king", Screen.next(later.shown));
    restored.close();
  }

  @Test
  public void whatCannotBeOpenedIsSaid() throws Exception {
    Screen screen = new Screen();
    Story story =
        new Story(
            options -> {
              throw new IOException("no such asset");
            },
            new File(folder.getRoot(), "story.chat"),
            screen);
    story.open();
    assertEquals("no such asset", Screen.next(screen.shown));
    story.write("a");
    story.save();
    story.close();
  }

  @Test
  public void aDamagedFileBeginsAnew() throws Exception {
    java.nio.file.Files.write(folder.getRoot().toPath().resolve("story.chat"), new byte[1000]);
    Screen screen = new Screen();
    Story story = story(screen);
    story.open();
    assertEquals("", Screen.next(screen.shown));
    story.close();
  }
}
