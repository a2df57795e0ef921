package dev.moka.sample;

import dev.moka.Chat;
import dev.moka.ChatOptions;
import dev.moka.GenerateOptions;
import dev.moka.Model;
import dev.moka.MokaException;
import dev.moka.OpenOptions;
import dev.moka.Role;
import dev.moka.Turn;
import java.io.File;
import java.io.IOException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * The story and the model that writes it, without a screen. All work is done on one thread of its own, in
 * the order in which it was asked for, as a chat wants it; every method returns at once.
 */
final class Story {
  /** Both are called by the story's thread. */
  interface Screen {
    void show(String all);

    void add(String piece);
  }

  /** Where the model comes from. */
  interface Source {
    Model open(OpenOptions options) throws IOException;
  }

  private final ExecutorService worker = Executors.newSingleThreadExecutor();
  private final Source source;
  private final File file;
  private final Screen screen;
  // Of the worker.
  private Model model;
  private Chat chat;

  // How often it was asked to stop, by the screen's thread alone.
  private volatile int stops;

  Story(Source source, File file, Screen screen) {
    this.source = source;
    this.file = file;
    this.screen = screen;
  }

  /** Opens model and story, where they are not open yet. */
  void open() {
    worker.execute(
        () -> {
          try {
            if (model == null) model = source.open(new OpenOptions());
            if (chat == null) chat = openChat();
            screen.show(told());
          } catch (IOException | MokaException failure) {
            screen.show(failure.getMessage());
          }
        });
  }

  private Chat openChat() {
    try {
      return model.openChat(file, new ChatOptions());
    } catch (MokaException.NotFound none) {
      return model.newChat(new ChatOptions());
    } catch (MokaException.Corrupt | MokaException.FailedPrecondition old) {
      // A file that this version or this model cannot go on with: the story begins anew.
      return model.newChat(new ChatOptions());
    }
  }

  /** Puts the words behind the story, and lets the model write on. */
  void write(String words) {
    int begun = stops;
    run(
        () -> {
          if (!words.isEmpty() || chat.current() == Chat.START) {
            String given = words.isEmpty() ? "Once upon a time" : words;
            chat.append(Role.USER, given);
            screen.add(given);
          }
          chat.generate(
              new GenerateOptions().maxTokens(200),
              null,
              piece -> {
                screen.add(piece);
                return stops == begun; // what was written by then is kept
              });
        });
  }

  /** Ends the writing behind the piece that came last. */
  void stop() {
    ++stops;
  }

  /** Takes the last turn back. */
  void undo() {
    stop();
    run(
        () -> {
          if (chat.current() == Chat.START) return;
          chat.undo();
          screen.show(told());
        });
  }

  /** Ends the writing and keeps the story; the process may end any time after that. */
  void save() {
    stop();
    run(() -> chat.saveFile(file));
  }

  /** Frees everything, behind what is under way. */
  void close() {
    stop();
    worker.execute(
        () -> {
          if (chat != null) chat.close();
          if (model != null) model.close();
        });
    worker.shutdown();
  }

  private void run(Runnable work) {
    worker.execute(
        () -> {
          if (chat == null) return; // it could not be opened, which the screen says
          try {
            work.run();
          } catch (MokaException failure) {
            screen.show(told() + "\n\n(" + failure.getMessage() + ")");
          }
        });
  }

  private String told() {
    StringBuilder all = new StringBuilder();
    for (Turn turn : chat.path()) all.append(turn.text);
    return all.toString();
  }
}
