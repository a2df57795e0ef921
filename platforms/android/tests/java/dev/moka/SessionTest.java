package dev.moka;

import static dev.moka.Testing.STORIES;
import static dev.moka.Testing.assertSameBits;
import static dev.moka.Testing.thrown;
import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertSame;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.AfterClass;
import org.junit.BeforeClass;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** Sessions and samplers: reading, writing, saving. */
public final class SessionTest {
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

  private static Session session(int... tokens) {
    Session session = model.newSession();
    if (tokens.length > 0) session.append(tokens);
    return session;
  }

  private static SamplerOptions seeded() {
    return new SamplerOptions().temperature(0.8f).seed(3);
  }

  private static GenerateOptions of(long tokens) {
    return new GenerateOptions().maxTokens(tokens);
  }

  @Test
  public void logitsAreThoseOfTheCommand() throws IOException {
    int[] ids = model.tokenize("Once upon a time there was a king", false);
    Path in = folder.getRoot().toPath().resolve("ids.npy");
    Path out = folder.getRoot().toPath().resolve("logits.npy");
    Testing.writeNpy(in, ids);
    Testing.command("logits", STORIES, "--ids", in.toString(), "-o", out.toString());
    float[] expected = Testing.readNpy(out);
    assertEquals(ids.length * 8192, expected.length);
    assertSameBits(expected, model.read(Input.tokens(ids), new ReadOptions()));
    try (Session session = session()) {
      assertEquals(0, session.logits().length);
      assertSameBits(expected, session.appendRows(Input.tokens(ids)));
      assertSameBits(
          Arrays.copyOfRange(expected, expected.length - 8192, expected.length), session.logits());
      assertEquals(ids.length, session.position());
    }
  }

  @Test
  public void aTextBeginsWithTheTokenOfTexts() {
    try (Session text = session();
        Session ids = session(0)) {
      text.append("There");
      text.append(" was");
      ids.append(model.tokenize("There", false));
      ids.append(Input.tokens(model.tokenize(" was", false)));
      assertEquals(ids.position(), text.position());
      assertSameBits(ids.logits(), text.logits());
    }
  }

  @Test
  public void aReplyThatCannotBeginReadsNoPrompt() {
    try (Session session = session()) {
      thrown(
          MokaException.OutOfRange.class,
          "stop_tokens[0] is 99999",
          () -> session.reply("Once", of(4).stopTokens(99999), seeded(), piece -> true));
      assertEquals(0, session.position());
    }
  }

  @Test
  public void aReplyIsWhatTheCommandWrites() {
    String expected =
        Testing.text(
            Testing.command(
                "run", STORIES, "-p", "Once upon a time", "-n", "40", "--temperature", "0.8",
                "--seed", "3"));
    StringBuilder text = new StringBuilder("Once upon a time");
    List<String> pieces = new ArrayList<>();
    try (Session session = session()) {
      GenerateResult result =
          session.reply(
              "Once upon a time",
              of(40),
              seeded(),
              piece -> {
                pieces.add(piece);
                text.append(piece);
                return true;
              });
      assertEquals(End.TOKENS, result.end);
      assertEquals(40, result.tokens);
      assertEquals(40 + 5, session.position());
    }
    assertEquals(expected.stripTrailing(), text.toString().stripTrailing());
    assertTrue(pieces.size() > 20); // it came in pieces
  }

  @Test
  public void stepsDrawWhatGenerateDraws() {
    StringBuilder expected = new StringBuilder();
    StringBuilder found = new StringBuilder();
    try (Session a = session(0);
        Session b = a.fork();
        Sampler draws = model.newSampler(seeded());
        Sampler same = model.newSampler(seeded());
        TextStream stream = model.newTextStream()) {
      assertEquals(3, draws.seed());
      a.generate(of(20), draws, piece -> expected.append(piece) != null);
      for (int i = 0; i < 20; ++i) found.append(stream.push(b.step(same)));
      found.append(stream.finish());
      assertEquals(expected.toString(), found.toString());
      assertSameBits(a.logits(), b.logits());
    }
  }

  @Test
  public void guessesChangeNothingButTheSpeed() {
    int[] prompt = model.tokenize(" the king and the queen, and".repeat(8), false);
    StringBuilder plain = new StringBuilder();
    StringBuilder guessed = new StringBuilder();
    try (Session a = session(prompt);
        Session b = session(prompt)) {
      SamplerOptions greedy = new SamplerOptions().temperature(0);
      a.reply(null, of(30), greedy, piece -> plain.append(piece) != null);
      GenerateResult result =
          b.reply(null, of(30).lookup(8, prompt), greedy, piece -> guessed.append(piece) != null);
      assertEquals(plain.toString(), guessed.toString());
      assertTrue(result.drafted + " drafted", result.drafted > 0);
      assertTrue(result.accepted + " accepted", result.drafted >= result.accepted);
      assertSameBits(a.logits(), b.logits());
    }
  }

  @Test
  public void whatEndsTheWriting() {
    try (Session session = session(0)) {
      List<String> pieces = new ArrayList<>();
      GenerateResult result =
          session.reply(
              null,
              of(100),
              seeded(),
              piece -> {
                pieces.add(piece);
                return pieces.size() < 3;
              });
      assertEquals(End.LISTENER, result.end);
      assertEquals(3, pieces.size());
      assertEquals(1 + result.tokens, session.position());
    }
    StringBuilder all = new StringBuilder();
    try (Session session = session(0)) {
      session.reply(null, of(60), seeded(), piece -> all.append(piece) != null);
    }
    String word = all.toString().strip().split("\\s+")[5];
    StringBuilder stopped = new StringBuilder();
    try (Session session = session(0)) {
      GenerateOptions options = of(60).stopTexts(word, EMOJI_NOT_WRITTEN);
      GenerateResult result =
          session.reply(null, options, seeded(), piece -> stopped.append(piece) != null);
      assertEquals(End.STOP_TEXT, result.end);
    }
    assertEquals(all.substring(0, all.indexOf(word)), stopped.toString());
    try (Session session = session(0);
        Sampler sampler = model.newSampler(new SamplerOptions().temperature(0))) {
      Session same = session.fork();
      int next = same.step(sampler);
      same.close();
      sampler.reset();
      GenerateResult result = session.generate(of(60).stopTokens(next), sampler, null);
      assertEquals(End.STOP_TOKEN, result.end);
      assertEquals(0, result.tokens);
    }
    try (Session session = session(0)) {
      assertEquals(
          End.TIME, session.reply(null, of(1 << 20).maxMs(1).stopAtEnd(false), null, null).end);
    }
  }

  private static final String EMOJI_NOT_WRITTEN = Testing.EMOJI + Testing.EMOJI;

  @Test
  public void whatAListenerThrowsComesOut() {
    IllegalArgumentException mine = new IllegalArgumentException("mine");
    try (Session session = session(0)) {
      int[] heard = {0};
      IllegalArgumentException found =
          thrown(
              IllegalArgumentException.class,
              "mine",
              () ->
                  session.reply(
                      null,
                      of(50),
                      seeded(),
                      piece -> {
                        if (++heard[0] == 2) throw mine;
                        return true;
                      }));
      assertSame(mine, found);
      assertEquals(2, heard[0]);
      // It stands behind a whole token and goes on.
      long position = session.position();
      assertTrue(position >= 3 && position < 51);
      assertEquals(5, session.reply(null, of(5).stopAtEnd(false), seeded(), null).tokens);
      assertEquals(position + 5, session.position());
    }
  }

  @Test
  public void charactersOverSeveralTokensComeWhole() {
    // A model of random weights that writes bytes, of which only those of one character are allowed.
    File file = Testing.small(folder.getRoot());
    try (Model small = Model.open(file);
        Session session = small.newSession()) {
      SamplerOptions options = new SamplerOptions().temperature(50).topP(1).topK(0).minP(0).seed(1);
      options.repeatPenalty(1);
      boolean[] allowed = new boolean[small.info().vocabSize];
      for (int token : small.tokenize(Testing.EMOJI, false)) allowed[token] = true;
      assertEquals(4, small.tokenize(Testing.EMOJI, false).length);
      for (int id = 0; id < allowed.length; ++id) {
        if (!allowed[id]) options.bias(id, Float.NEGATIVE_INFINITY);
      }
      session.append("a");
      Session again = session.fork();
      StringBuilder written = new StringBuilder();
      List<Integer> counts = new ArrayList<>();
      GenerateResult result =
          session.reply(
              null,
              of(3000).loopTokens(0),
              options,
              piece -> {
                assertTrue(Testing.isWhole(piece));
                assertFalse(piece.isEmpty());
                written.append(piece);
                if (piece.contains(Testing.EMOJI)) counts.add(1);
                return true;
              });
      assertEquals(3000, result.tokens);
      assertTrue(counts.size() + " of 3000 / 256 expected", counts.size() >= 2);
      StringBuilder stepped = new StringBuilder();
      try (again;
          Sampler sampler = small.newSampler(options);
          TextStream stream = small.newTextStream()) {
        for (int i = 0; i < 3000; ++i) stepped.append(stream.push(again.step(sampler)));
        stepped.append(stream.finish());
      }
      assertEquals(stepped.toString(), written.toString());
    }
  }

  @Test
  public void savedAndRestoredToTheBit() throws IOException {
    File file = new File(folder.getRoot(), "king.session");
    StringBuilder expected = new StringBuilder();
    byte[] saved;
    byte[] draws;
    float[] logits;
    try (Session session = session();
        Sampler sampler = model.newSampler(seeded())) {
      session.append("There was once a king");
      session.generate(of(10).stopAtEnd(false), sampler, null);
      saved = session.save();
      assertArrayEquals(saved, session.save());
      session.saveFile(file);
      draws = sampler.save();
      session.generate(of(20), sampler, piece -> expected.append(piece) != null);
      logits = session.logits();
    }
    assertArrayEquals(saved, Files.readAllBytes(file.toPath()));
    for (boolean fromFile : new boolean[] {false, true}) {
      StringBuilder found = new StringBuilder();
      try (Session session = session(5, 6);
          Sampler sampler = model.newSampler(seeded())) {
        if (fromFile) {
          session.restoreFile(file);
        } else {
          session.restore(saved);
        }
        assertArrayEquals(saved, session.save());
        sampler.restore(draws);
        session.generate(of(20), sampler, piece -> found.append(piece) != null);
        assertEquals(expected.toString(), found.toString());
        assertSameBits(logits, session.logits());
      }
    }
    try (Session session = session(5, 6);
        Sampler sampler = model.newSampler(seeded());
        Model other = Model.open(Testing.small(folder.getRoot()));
        Session foreign = other.newSession()) {
      float[] before = session.logits();
      byte[] damaged = saved.clone();
      damaged[damaged.length / 2] ^= 1;
      thrown(MokaException.Corrupt.class, "", () -> session.restore(damaged));
      assertSameBits(before, session.logits());
      thrown(MokaException.FailedPrecondition.class, "", () -> foreign.restore(saved));
      thrown(MokaException.Corrupt.class, "", () -> sampler.restore(new byte[3]));
      thrown(
          MokaException.NotFound.class,
          "none.session",
          () -> session.restoreFile(new File(folder.getRoot(), "none.session")));
      session.reset();
      assertEquals(0, session.position());
    }
  }

  @Test
  public void aSnapshotIsAPrefixThatWasRead() throws IOException {
    File copy = new File(folder.getRoot(), "with.moka");
    Files.copy(Path.of(STORIES), copy.toPath());
    Testing.command(
        "snapshot", "add", copy.getPath(), "--name", "king", "-p", "There was a king");
    try (Model with = Model.open(copy);
        Session session = with.newSession();
        Session read = with.newSession();
        Chat chat = with.newChat(new ChatOptions().from("king"))) {
      Snapshot snapshot = with.snapshots().get(0);
      assertEquals(1, with.snapshots().size());
      assertEquals("king", snapshot.name);
      assertEquals("There was a king", snapshot.text);
      assertTrue(snapshot.usable);
      assertTrue(snapshot.bytes + " bytes", snapshot.bytes > 10_000);
      session.restoreSnapshot("king");
      assertEquals(snapshot.position, session.position());
      read.append("There was a king");
      assertSameBits(read.logits(), session.logits());
      assertEquals("king", chat.from());
      thrown(MokaException.NotFound.class, "king", () -> session.restoreSnapshot("queen"));
    }
  }

  @Test
  public void samplersDrawFromScores() {
    try (Sampler greedy = model.newSampler(new SamplerOptions().temperature(0).bias(7, -1e30f));
        Sampler one = model.newSampler(new SamplerOptions());
        Sampler two = model.newSampler(new SamplerOptions())) {
      float[] scores = new float[8192];
      scores[7] = 9;
      scores[11] = 8;
      assertEquals(11, greedy.sample(scores));
      greedy.accept(11, 12);
      greedy.reset();
      assertTrue(one.seed() != two.seed()); // random ones, of 2^32
      thrown(MokaException.InvalidArgument.class, "", () -> greedy.sample(new float[3]));
      scores[1] = Float.NaN;
      thrown(MokaException.InvalidArgument.class, "", () -> greedy.sample(scores));
      thrown(
          MokaException.InvalidArgument.class,
          "temperature",
          () -> model.newSampler(new SamplerOptions().temperature(Float.NaN)));
      thrown(
          MokaException.InvalidArgument.class,
          "topK is -1",
          () -> new SamplerOptions().topK(-1));
    }
  }

  @Test
  public void refusals() {
    try (Session session = session();
        Sampler sampler = model.newSampler(seeded())) {
      thrown(MokaException.FailedPrecondition.class, "", () -> session.step(sampler));
      thrown(MokaException.FailedPrecondition.class, "", () -> session.generate(of(1), sampler, null));
      thrown(MokaException.OutOfRange.class, "8192", () -> session.append(1, 8192));
      thrown(
          MokaException.InvalidArgument.class, "", () -> session.append(Input.values(1, 2)));
      thrown(
          MokaException.InvalidArgument.class,
          "maxTokens is 0, must be at least 1",
          () -> of(0));
      thrown(
          MokaException.InvalidArgument.class,
          "lookup is 17",
          () -> session.reply("a", of(1).lookup(17), null, null));
      thrown(
          MokaException.InvalidArgument.class,
          "stopTexts[1] is null",
          () -> session.reply("a", of(1).stopTexts("x", null), null, null));
    }
  }
}
