package dev.moka;

import static dev.moka.Testing.STORIES;
import static dev.moka.Testing.memory;
import static dev.moka.Testing.thrown;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.lang.reflect.Field;
import java.util.Collection;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.AfterClass;
import org.junit.BeforeClass;
import org.junit.ClassRule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** Closing, cancelling and threads. */
public final class LifeTest {
  @ClassRule public static final TemporaryFolder FOLDER = new TemporaryFolder();
  private static final GenerateOptions LONG =
      new GenerateOptions().maxTokens(1L << 40).stopAtEnd(false).loopTokens(0);
  private static Model model;
  private static Model small;

  @BeforeClass
  public static void open() {
    model = Model.open(STORIES);
    small = Model.open(Testing.small(FOLDER.getRoot()));
  }

  @AfterClass
  public static void close() {
    model.close();
    small.close();
  }

  /** A call on a thread of its own, and what it threw. */
  private static final class Call {
    final AtomicReference<Throwable> thrown = new AtomicReference<>();
    final CountDownLatch spoke = new CountDownLatch(1);
    final Thread thread;

    Call(Testing.Action action) {
      thread =
          new Thread(
              () -> {
                try {
                  action.run();
                } catch (Throwable failure) {
                  thrown.set(failure);
                }
              });
    }

    static Call writing(Session session) {
      Call[] call = {null};
      call[0] =
          new Call(
              () ->
                  session.reply(
                      null,
                      LONG,
                      null,
                      piece -> {
                        call[0].spoke.countDown();
                        return true;
                      }));
      call[0].thread.start();
      return call[0];
    }

    void awaitText() throws InterruptedException {
      assertTrue(spoke.await(60, TimeUnit.SECONDS));
    }

    Throwable end() throws InterruptedException {
      thread.join(60_000);
      assertTrue(!thread.isAlive());
      return thrown.get();
    }
  }

  @Test
  public void nothingWorksAfterClose() {
    Model own = Model.open(STORIES);
    Session session = own.newSession();
    Sampler sampler = own.newSampler(new SamplerOptions());
    TextStream stream = own.newTextStream();
    Chat chat = own.newChat(new ChatOptions());
    for (AutoCloseable each : new AutoCloseable[] {session, sampler, stream, chat, own}) {
      try {
        each.close();
        each.close(); // harmless
      } catch (Exception failure) {
        throw new AssertionError(failure);
      }
    }
    thrown(IllegalStateException.class, "the session is closed", () -> session.append(1));
    thrown(IllegalStateException.class, "the session is closed", session::position);
    thrown(IllegalStateException.class, "the session is closed", session::save);
    thrown(IllegalStateException.class, "the session is closed", session::fork);
    thrown(IllegalStateException.class, "the sampler is closed", sampler::reset);
    thrown(IllegalStateException.class, "the stream is closed", stream::finish);
    thrown(IllegalStateException.class, "the chat is closed", chat::undo);
    thrown(IllegalStateException.class, "the model is closed", own::newSession);
    thrown(IllegalStateException.class, "the model is closed", () -> own.tokenize("a", false));
    thrown(
        IllegalStateException.class,
        "the model is closed",
        () -> own.newSampler(new SamplerOptions()));
    session.cancel(); // may come at any time
    chat.cancel();
    assertEquals("stories", own.info().name);
  }

  @Test
  public void whatWasMadeGoesOnWithoutTheModel() {
    Model own = Model.open(STORIES);
    Session session = own.newSession();
    Chat chat = own.newChat(new ChatOptions());
    own.close();
    session.append("There was a king");
    GenerateOptions five = new GenerateOptions().maxTokens(5).stopAtEnd(false);
    assertEquals(5, session.reply(" who", five, null, null).tokens);
    assertEquals(6, session.fork().reply(null, five.maxTokens(6), null, null).tokens);
    chat.append(Role.USER, "There was");
    chat.generate(five, new SamplerOptions().seed(1), null);
    session.close();
    chat.close();
  }

  @Test
  public void cancelFromAnotherThread() throws InterruptedException {
    try (Session session = model.newSession()) {
      session.append("Once");
      session.cancel(); // nothing is running: nothing happens
      Call call = Call.writing(session);
      call.awaitText();
      thrown(IllegalStateException.class, "in use by another call", session::position);
      session.cancel();
      assertEquals(MokaException.Cancelled.class, call.end().getClass());
      long position = session.position();
      assertTrue(position > 2);
      session.append(5);
      assertEquals(position + 1, session.position());
    }
  }

  @Test
  public void cancelOfAPrompt() throws InterruptedException {
    try (Session session = model.newSession()) {
      session.append(1, 2);
      float[] before = session.logits();
      int[] prompt = new int[200_000];
      Call call = new Call(() -> session.append(prompt));
      call.thread.start();
      while (call.thread.isAlive()) {
        Thread.sleep(20);
        session.cancel();
      }
      assertEquals(MokaException.Cancelled.class, call.end().getClass());
      assertEquals(2, session.position());
      Testing.assertSameBits(before, session.logits());
    }
  }

  @Test
  public void aCancelThatComesTooLateEndsNothing() throws InterruptedException {
    GenerateOptions one = new GenerateOptions().maxTokens(1).stopAtEnd(false);
    try (Session session = model.newSession();
        Chat chat = model.newChat(new ChatOptions())) {
      session.append("There was");
      chat.append(Role.USER, "There was");
      for (int i = 0; i < 10; ++i) {
        boolean[] heard = {false};
        TextListener canceller =
            piece -> {
              heard[0] = true;
              session.cancel(); // the last token is written already
              chat.cancel();
              return true;
            };
        long position = session.position();
        assertEquals(End.TOKENS, session.reply(null, one, null, canceller).end);
        session.append(5);
        assertEquals(position + 2, session.position());
        assertTrue(heard[0]);
        try {
          chat.generate(one, null, canceller);
        } catch (MokaException.Cancelled inTime) {
          // A turn may have more to read at its end.
        }
        chat.append(Role.USER, " a");
      }
    }
  }

  @Test
  public void cancelsAtAnyTimeEndNoLaterCall() throws InterruptedException {
    GenerateOptions some = new GenerateOptions().maxTokens(20).stopAtEnd(false).loopTokens(0);
    try (Session session = small.newSession()) {
      session.append("a");
      for (int i = 0; i < 300; ++i) {
        Thread other = new Thread(session::cancel);
        other.start();
        try {
          session.reply(null, some, null, i % 2 == 0 ? null : piece -> true);
        } catch (MokaException.Cancelled inTime) {
          // As it should be, then.
        }
        other.join();
        long position = session.position();
        session.append(5); // is not cancelled
        assertEquals(position + 1, session.position());
      }
    }
  }

  @Test
  public void closeWhileAnotherThreadGenerates() throws InterruptedException {
    for (int i = 0; i < 3; ++i) {
      Session session = model.newSession();
      session.append("Once");
      Call call = Call.writing(session);
      call.awaitText();
      session.close();
      assertEquals(MokaException.Cancelled.class, call.end().getClass());
      thrown(IllegalStateException.class, "the session is closed", session::position);
      session.close();
    }
    Chat chat = model.newChat(new ChatOptions());
    chat.append(Role.USER, "Once");
    CountDownLatch spoke = new CountDownLatch(1);
    Call call =
        new Call(
            () ->
                chat.generate(
                    new GenerateOptions().maxTokens(100_000).stopAtEnd(false),
                    null,
                    piece -> {
                      spoke.countDown();
                      return true;
                    }));
    call.thread.start();
    assertTrue(call.thrown + " was thrown", spoke.await(60, TimeUnit.SECONDS));
    chat.close();
    assertEquals(MokaException.Cancelled.class, call.end().getClass());
  }

  @Test
  public void closeByTheListener() {
    Session session = model.newSession();
    session.append("Once");
    int[] heard = {0};
    thrown(
        MokaException.Cancelled.class,
        "",
        () ->
            session.reply(
                null,
                LONG,
                null,
                piece -> {
                  thrown(IllegalStateException.class, "in use", session::logits);
                  session.close();
                  ++heard[0];
                  return true;
                }));
    assertTrue(heard[0] >= 1);
    thrown(IllegalStateException.class, "the session is closed", session::logits);
  }

  @Test
  public void manyThreadsAndAClose() throws InterruptedException {
    Random random = new Random(2);
    for (int round = 0; round < 60; ++round) {
      Model own = Model.open(small(round));
      Session session = own.newSession();
      session.append("a");
      Call[] calls = new Call[4];
      for (int i = 0; i < calls.length; ++i) {
        boolean whole = i == 3;
        calls[i] =
            new Call(
                () -> {
                  while (true) {
                    try {
                      if (whole) {
                        own.tokenize("some text", false);
                      } else {
                        session.reply("b", new GenerateOptions().maxTokens(9), null, p -> true);
                      }
                    } catch (IllegalStateException state) {
                      if (state.getMessage().contains("is closed")) return;
                    } catch (MokaException.Cancelled closed) {
                      // The next call says that it is closed.
                    }
                  }
                });
        calls[i].thread.start();
      }
      Thread.sleep(random.nextInt(8));
      if (random.nextBoolean()) {
        session.close();
        own.close();
      } else {
        own.close();
        session.close();
      }
      for (Call call : calls) assertNull(call.end());
    }
  }

  private static java.io.File small(int round) {
    return new java.io.File(FOLDER.getRoot(), "small.moka");
  }

  @Test
  public void aThousandSessionsLeaveNothing() throws Exception {
    long first = 0;
    for (int i = 0; i < 1200; ++i) {
      try (Session session = model.newSession();
          Sampler sampler = model.newSampler(new SamplerOptions())) {
        session.append(1, 2, 3);
        session.step(sampler);
        if (i % 10 == 0) session.fork().close();
        if (i % 100 == 0) session.restore(session.save());
      }
      if (i == 199) first = memory();
    }
    // A session has 2.5 MB: a leak would be 2,500 MB. Java's own heap may grow.
    long grown = memory() - first;
    assertTrue("1000 sessions grew the process by " + grown / 1024 + " KB", grown < 64 << 20);
    System.out.println("1000 sessions: memory grew by " + grown / 1024 + " KB");
  }

  @Test
  public void aThousandModelsAndChatsLeaveNothing() throws Exception {
    long first = 0;
    byte[] bytes = java.nio.file.Files.readAllBytes(small(0).toPath());
    for (int i = 0; i < 1200; ++i) {
      try (Model own = i % 2 == 0 ? Model.open(small(0)) : Model.open(bytes, new OpenOptions());
          Chat chat = own.newChat(new ChatOptions())) {
        chat.append(Role.USER, "abc");
        chat.generate(new GenerateOptions().maxTokens(3), null, piece -> true);
        own.openChat(chat.save(), new ChatOptions()).close();
      }
      if (i == 199) first = memory();
    }
    long grown = memory() - first;
    assertTrue("1000 models grew the process by " + grown / 1024 + " KB", grown < 48 << 20);
    System.out.println("1000 models and chats: memory grew by " + grown / 1024 + " KB");
  }

  @Test
  public void whatNobodyClosedIsFreed() throws Exception {
    Class<?> net = Class.forName("dev.moka.Handle$Net");
    Field all = net.getDeclaredField("ALL");
    all.setAccessible(true);
    Collection<?> open = (Collection<?>) all.get(null);
    for (int i = 0; i < 50; ++i) assertNotNull(model.newSession());
    int left = open.size();
    assertTrue(left >= 50);
    for (int i = 0; i < 200 && left > 10; ++i) {
      System.gc();
      Thread.sleep(10);
      synchronized (open) {
        left = open.size();
      }
    }
    assertTrue(left + " are left", left <= 10);
  }
}
