package dev.moka;

import static dev.moka.Testing.STORIES;
import static dev.moka.Testing.assertSameBits;
import static dev.moka.Testing.thrown;
import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertSame;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import org.junit.AfterClass;
import org.junit.BeforeClass;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** Chats. */
public final class ChatTest {
  private static Model model;

  @Rule public final TemporaryFolder folder = new TemporaryFolder();

  @BeforeClass
  public static void open() {
    model = Model.open(STORIES);
  }

  @AfterClass
  public static void close() {
    model.close();
  }

  private static ChatOptions seeded() {
    return new ChatOptions().sampling(new SamplerOptions().temperature(0.8f).seed(3));
  }

  private static GenerateOptions of(long tokens) {
    return new GenerateOptions().maxTokens(tokens).stopAtEnd(false);
  }

  @Test
  public void turnsFormATree() {
    try (Chat chat = model.newChat(seeded())) {
      assertEquals(Chat.START, chat.current());
      assertEquals(0, chat.logits().length);
      assertEquals(3, chat.seed());
      long first = chat.append(Role.USER, "There was a king " + Testing.EMOJI).turn;
      StringBuilder text = new StringBuilder();
      ChatStep step = chat.generate(of(8), null, piece -> text.append(piece) != null);
      Turn written = chat.turn(step.turn);
      assertEquals(text.toString(), written.text);
      assertEquals(Role.MODEL, written.role);
      assertEquals(End.TOKENS, written.end);
      assertEquals(first, written.parent);
      assertEquals(8, written.tokens.length - written.templateHead - written.templateTail);
      assertEquals("There was a king " + Testing.EMOJI, chat.turn(first).text);
      assertEquals(End.NONE, chat.turn(first).end);
      long again = chat.regenerate(of(8), null, null).turn;
      assertEquals(first, chat.turn(again).parent);
      assertEquals(3, chat.turns().size());
      assertEquals(2, chat.path().size());
      assertEquals(again, chat.path().get(1).id);
      assertEquals(first, chat.undo().turn);
      assertEquals(step.turn, chat.switchTo(step.turn).turn);
      long edited = chat.edit(first, "There was a queen").turn;
      assertEquals(Chat.START, chat.turn(edited).parent);
      long branch = chat.branch(first, Role.SYSTEM, "and").turn;
      assertEquals(Role.SYSTEM, chat.turn(branch).role);
      chat.remove(edited);
      thrown(MokaException.NotFound.class, "" + edited, () -> chat.turn(edited));
      thrown(MokaException.FailedPrecondition.class, "", () -> chat.remove(first));
      assertTrue(chat.keptStateBytes() > 0);
      assertEquals("", chat.from());
      chat.switchTo(Chat.START);
      thrown(MokaException.FailedPrecondition.class, "", chat::undo);
      thrown(MokaException.NotFound.class, "99", () -> chat.switchTo(99));
    }
  }

  @Test
  public void savedAndOpenedToTheBit() throws IOException {
    File file = new File(folder.getRoot(), "story.chat");
    byte[] saved;
    float[] logits;
    StringBuilder expected = new StringBuilder();
    try (Chat chat = model.newChat(seeded().templateId("plain").around(Role.USER, "> ", "\n"))) {
      chat.append(Role.USER, "There was a king");
      chat.generate(of(6), null, null);
      saved = chat.save();
      assertArrayEquals(saved, chat.save());
      chat.saveFile(file);
      chat.generate(of(12), null, piece -> expected.append(piece) != null);
      logits = chat.logits();
    }
    assertArrayEquals(saved, Files.readAllBytes(file.toPath()));
    ChatOptions same = new ChatOptions().templateId("plain").around(Role.USER, "> ", "\n");
    for (boolean fromFile : new boolean[] {false, true}) {
      StringBuilder found = new StringBuilder();
      try (Chat chat = fromFile ? model.openChat(file, same) : model.openChat(saved, same)) {
        assertEquals("There was a king", chat.path().get(0).text);
        assertEquals(1, chat.path().get(0).templateTail);
        chat.generate(of(12), null, piece -> found.append(piece) != null);
        assertEquals(expected.toString(), found.toString());
        assertSameBits(logits, chat.logits());
      }
    }
    thrown(
        MokaException.FailedPrecondition.class,
        "plain",
        () -> model.openChat(saved, new ChatOptions().templateId("other")));
    byte[] damaged = saved.clone();
    damaged[damaged.length / 2] ^= 1;
    thrown(MokaException.Corrupt.class, "", () -> model.openChat(damaged, same));
    thrown(
        MokaException.NotFound.class,
        "none.chat",
        () -> model.openChat(new File(folder.getRoot(), "none.chat"), same));
    thrown(
        MokaException.InvalidArgument.class,
        "templateId has a character NUL at index 0",
        () -> model.newChat(new ChatOptions().templateId("\0")));
  }

  @Test
  public void anEndedTurnIsKeptAndACancelledOneIsNot() {
    try (Chat chat = model.newChat(seeded())) {
      chat.append(Role.USER, "There was");
      List<String> pieces = new ArrayList<>();
      ChatStep step =
          chat.generate(
              of(50),
              null,
              piece -> {
                pieces.add(piece);
                return pieces.size() < 4;
              });
      Turn kept = chat.turn(step.turn);
      assertEquals(End.LISTENER, kept.end);
      assertEquals(String.join("", pieces), kept.text);
      float[] before = chat.logits();
      thrown(
          MokaException.Cancelled.class,
          "",
          () ->
              chat.generate(
                  of(50),
                  null,
                  piece -> {
                    chat.cancel();
                    return true;
                  }));
      assertEquals(step.turn, chat.current());
      assertSameBits(before, chat.logits());
    }
  }

  @Test
  public void listenersThatThrow() {
    IllegalStateException mine = new IllegalStateException("mine");
    try (Chat chat = model.newChat(seeded())) {
      chat.append(Role.USER, "There was");
      IllegalStateException found =
          thrown(
              IllegalStateException.class,
              "mine",
              () ->
                  chat.generate(
                      of(50),
                      null,
                      piece -> {
                        throw mine;
                      }));
      assertSame(mine, found);
      chat.append(Role.USER, " a"); // it goes on
    }
  }

  @Test
  public void progressHearsOfReading() {
    List<String> told = new ArrayList<>();
    boolean[] goesOn = {true};
    ChatOptions options =
        seeded()
            .stateBudgetBytes(0)
            .progress(
                (done, total, again) -> {
                  told.add(done + "/" + total + (again ? " again" : ""));
                  return goesOn[0];
                });
    try (Chat chat = model.newChat(options)) {
      long first = chat.append(Role.USER, "There was a king who had three sons.").turn;
      int tokens = chat.turn(first).tokens.length;
      assertEquals("0/" + tokens, told.get(0));
      assertEquals(tokens + "/" + tokens, told.get(told.size() - 1));
      chat.switchTo(Chat.START);
      told.clear();
      ChatStep step = chat.switchTo(first);
      assertEquals("0/" + tokens + " again", told.get(0));
      assertEquals(tokens, step.tokensReadAgain);
      goesOn[0] = false;
      thrown(MokaException.Cancelled.class, "", () -> chat.append(Role.USER, " They"));
      assertEquals(first, chat.current());
    }
  }
}
