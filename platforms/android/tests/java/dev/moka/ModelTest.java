package dev.moka;

import static dev.moka.Testing.LISTOPS;
import static dev.moka.Testing.STORIES;
import static dev.moka.Testing.assertSameBits;
import static dev.moka.Testing.thrown;
import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;

import android.content.res.AssetFileDescriptor;
import android.content.res.AssetManager;
import android.os.ParcelFileDescriptor;
import java.io.File;
import java.io.FileDescriptor;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.reflect.Field;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** Opening models; text. */
public final class ModelTest {
  @Rule public final TemporaryFolder folder = new TemporaryFolder();

  private static float[] logits(Model model) {
    try (Session session = model.newSession()) {
      session.append(3, 4, 5);
      return session.logits();
    }
  }

  /** The number that Android gives of an open file. */
  private static int number(FileDescriptor descriptor) throws ReflectiveOperationException {
    Field field = FileDescriptor.class.getDeclaredField("fd");
    field.setAccessible(true);
    return field.getInt(descriptor);
  }

  @Test
  public void whatAModelIs() {
    try (Model model = Model.open(STORIES)) {
      ModelInfo info = model.info();
      assertEquals("stories", info.name);
      assertEquals(ModelInfo.In.TOKENS, info.input);
      assertEquals(ModelInfo.Out.LANGUAGE, info.output);
      assertTrue(info.causal && info.hasTokenizer && !info.readsMemory);
      assertEquals(448, info.width);
      assertEquals(7, info.layers);
      assertEquals(8192, info.vocabSize);
      assertEquals(8192, info.outputs);
      assertEquals(0, info.endToken);
      assertEquals(0, info.startToken());
      assertEquals(22_781_248, info.parameters);
      assertEquals(0, info.stateBytesPerToken);
      assertEquals(0, info.positionLimit);
      assertTrue(info.fingerprint != 0);
      assertTrue(info.classes.isEmpty() && info.quantiles.isEmpty());
      assertTrue(model.snapshots().isEmpty());
    }
    try (Model model = Model.open(LISTOPS)) {
      assertEquals(ModelInfo.Out.CLASSIFIER, model.info().output);
      assertEquals(Arrays.asList("0123456789".split("")), model.info().classes);
    }
    try (Model model = Model.open(Testing.FORECASTER)) {
      assertEquals(Arrays.asList(0.1f, 0.5f, 0.9f), model.info().quantiles);
      assertEquals(3, model.info().forecastQuantiles);
    }
    assertTrue(Model.version(), Model.version().matches("[0-9]+\\.[0-9]+\\.[0-9]+"));
  }

  @Test
  public void failuresHaveTheirClassAndWords() throws IOException {
    File missing = new File(folder.getRoot(), "missing.moka");
    MokaException.NotFound none =
        thrown(MokaException.NotFound.class, "missing.moka", () -> Model.open(missing));
    assertEquals(Status.NOT_FOUND, none.status());
    File other = folder.newFile("other.moka");
    Files.writeString(other.toPath(), "not a model, but long enough to be looked at".repeat(9));
    thrown(MokaException.Corrupt.class, "other.moka", () -> Model.open(other));
    thrown(
        MokaException.InvalidArgument.class,
        "threads",
        () -> Model.open(new File(LISTOPS), new OpenOptions().threads(257)));
    thrown(
        MokaException.InvalidArgument.class,
        "chunk is 0, must be at least 1",
        () -> new OpenOptions().chunk(0));
    thrown(
        MokaException.OutOfRange.class,
        "limit_tensors",
        () -> Model.open(new File(LISTOPS), new OpenOptions().limits(0, 1, 0, 0)));
    thrown(
        MokaException.InvalidArgument.class, "NUL at index 1", () -> Model.open("a\0b"));
    thrown(
        MokaException.InvalidArgument.class,
        "half of a surrogate pair at index 2",
        () -> Model.open("ab\ud83d"));
  }

  @Test
  public void everyCodeHasAnExceptionOfItsOwn() {
    for (Status status : Status.values()) {
      MokaException made = MokaException.of(status.code, "words");
      assertEquals(status, made.status());
      if (status == Status.UNKNOWN) continue;
      assertEquals("words", made.getMessage());
      String name = made.getClass().getSimpleName().replaceAll("(.)([A-Z])", "$1_$2");
      assertEquals(status.name(), name.toUpperCase());
    }
    assertEquals(Status.UNKNOWN, MokaException.of(4711, "new").status());
  }

  @Test
  public void kernelsAreChosen() {
    float[] expected;
    try (Model model = Model.open(LISTOPS)) {
      expected = logits(model);
    }
    OpenOptions plain = new OpenOptions().kernels("scalar").threads(1).chunk(2);
    try (Model model = Model.open(new File(LISTOPS), plain)) {
      assertEquals("scalar", model.info().kernels);
      assertEquals(1, model.info().threads);
      float[] found = logits(model);
      for (int i = 0; i < found.length; ++i) assertEquals(expected[i], found[i], 0.01);
    }
    thrown(
        MokaException.InvalidArgument.class,
        "abacus",
        () -> Model.open(new File(LISTOPS), new OpenOptions().kernels("abacus")));
  }

  @Test
  public void fromAPartOfAnOpenFile() throws Exception {
    byte[] data = Files.readAllBytes(Path.of(LISTOPS));
    float[] expected;
    try (Model model = Model.open(LISTOPS)) {
      expected = logits(model);
    }
    File file = folder.newFile("package");
    for (int before : new int[] {64, 7}) { // mapped; read
      byte[] all = new byte[before + data.length + 9];
      Arrays.fill(all, (byte) 'x');
      System.arraycopy(data, 0, all, before, data.length);
      Files.write(file.toPath(), all);
      Model model;
      try (RandomAccessFile open = new RandomAccessFile(file, "r")) {
        model = Model.open(number(open.getFD()), before, data.length, new OpenOptions());
        assertEquals(0, open.getFilePointer());
      }
      try (model) {
        assertSameBits(expected, logits(model));
      }
    }
    try (RandomAccessFile open = new RandomAccessFile(file, "r")) {
      int fd = number(open.getFD());
      thrown(
          MokaException.OutOfRange.class,
          "",
          () -> Model.open(fd, 7, data.length + 100, new OpenOptions()));
      thrown(
          MokaException.InvalidArgument.class,
          "offset is -1",
          () -> Model.open(fd, -1, 0, new OpenOptions()));
    }
    thrown(
        MokaException.InvalidArgument.class, "", () -> Model.open(-1, 0, 0, new OpenOptions()));
  }

  @Test
  public void fromAnAsset() throws Exception {
    byte[] data = Files.readAllBytes(Path.of(LISTOPS));
    File file = folder.newFile("package");
    byte[] all = new byte[64 + data.length + 9];
    System.arraycopy(data, 0, all, 64, data.length);
    Files.write(file.toPath(), all);
    try (RandomAccessFile open = new RandomAccessFile(file, "r")) {
      int fd = number(open.getFD());
      boolean[] closed = {false};
      AssetManager assets =
          new AssetManager() {
            @Override
            public AssetFileDescriptor openFd(String name) throws IOException {
              if (!name.equals("listops.moka")) return super.openFd(name);
              ParcelFileDescriptor parcel =
                  new ParcelFileDescriptor() {
                    @Override
                    public int getFd() {
                      return fd;
                    }

                    @Override
                    public void close() {
                      closed[0] = true;
                    }
                  };
              return new AssetFileDescriptor(parcel, 64, data.length);
            }
          };
      try (Model model = AndroidModels.openAsset(assets, "listops.moka", new OpenOptions())) {
        assertEquals("4", model.classify("[MIN 4 [MAX 2 8 ] 7 ]").label);
        assertTrue(closed[0]);
      }
      thrown(
          IOException.class,
          "none.moka",
          () -> AndroidModels.openAsset(assets, "none.moka", new OpenOptions()));
    }
  }

  @Test
  public void fromMemory() throws IOException {
    byte[] data = Files.readAllBytes(Path.of(LISTOPS));
    float[] expected;
    try (Model model = Model.open(LISTOPS)) {
      expected = logits(model);
    }
    Model model = Model.open(data, new OpenOptions());
    Arrays.fill(data, (byte) 0); // it was copied
    Session session = model.newSession();
    model.close(); // the session keeps the memory
    session.append(3, 4, 5);
    assertSameBits(expected, session.logits());
    session.close();
    thrown(
        MokaException.Corrupt.class, "", () -> Model.open(new byte[1000], new OpenOptions()));
    thrown(
        MokaException.InvalidArgument.class,
        "bytes is null",
        () -> Model.open((byte[]) null, new OpenOptions()));
  }

  @Test
  public void progressHearsAndEnds() {
    List<Double> shares = new ArrayList<>();
    OpenOptions options =
        new OpenOptions()
            .checkData(true)
            .progress(
                share -> {
                  shares.add(share);
                  return true;
                });
    Model.open(new File(STORIES), options).close();
    assertTrue(shares.size() > 2);
    for (int i = 1; i < shares.size(); ++i) assertTrue(shares.get(i) >= shares.get(i - 1));
    assertEquals(1, shares.get(shares.size() - 1), 0);
    thrown(
        MokaException.Cancelled.class,
        "",
        () -> Model.open(new File(STORIES), options.progress(share -> false)));
    ArithmeticException mine = new ArithmeticException("mine");
    ArithmeticException found =
        thrown(
            ArithmeticException.class,
            "mine",
            () ->
                Model.open(
                    new File(STORIES),
                    options.progress(
                        share -> {
                          throw mine;
                        })));
    assertTrue(found == mine);
  }

  @Test
  public void textAndTokens() {
    try (Model model = Model.open(STORIES)) {
      for (String text : new String[] {"", "Once upon a time", "a" + Testing.EMOJI + "\u00e9\0z"}) {
        int[] tokens = model.tokenize(text, false);
        assertEquals(text, model.detokenize(tokens));
        StringBuilder bytes = new StringBuilder();
        for (int token : tokens) {
          for (byte b : model.tokenBytes(token)) bytes.append((char) (b & 255));
        }
        byte[] utf8 = text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
        assertEquals(new String(utf8, java.nio.charset.StandardCharsets.ISO_8859_1), bytes + "");
      }
      assertArrayEquals(new int[] {0}, model.tokenize("<|endoftext|>", true));
      assertTrue(model.tokenize("<|endoftext|>", false).length > 1);
      assertEquals("<|endoftext|>", Testing.text(model.tokenBytes(0)));
      thrown(MokaException.OutOfRange.class, "8192", () -> model.detokenize(8192));
      thrown(MokaException.OutOfRange.class, "-1", () -> model.tokenBytes(-1));
      thrown(
          MokaException.InvalidArgument.class,
          "text has half of a surrogate pair at index 1",
          () -> model.tokenize("x\ude00y", false));
    }
  }

  @Test
  public void aStreamGivesWholeCharacters() {
    try (Model model = Model.open(STORIES);
        TextStream stream = model.newTextStream()) {
      String text = "x" + Testing.EMOJI + "\u20ac" + Testing.EMOJI;
      int[] tokens = model.tokenize(text, false);
      assertTrue(tokens.length > 6); // the tokenizer has none of these characters as a whole
      StringBuilder all = new StringBuilder();
      int without = 0;
      for (int token : tokens) {
        String piece = stream.push(token);
        assertTrue(Testing.isWhole(piece));
        assertFalse(piece, piece.contains("\ufffd"));
        if (piece.isEmpty()) ++without;
        all.append(piece);
      }
      assertTrue(without > 0);
      assertEquals(text, all.toString());
      assertEquals("", stream.finish());
      stream.push(model.tokenize(Testing.EMOJI, false)[0]);
      assertEquals("\ufffd", stream.finish());
      thrown(MokaException.OutOfRange.class, "8192", () -> stream.push(8192));
    }
  }

  @Test
  public void executorsShareTheModel() {
    try (Model model = Model.open(STORIES);
        ModelExecutor two = model.newExecutor(2, 0)) {
      assertEquals(2, two.threads());
      assertTrue(two.scratchBytes() > 0);
      try (Session session = model.newSession(two)) {
        two.close();
        session.append(3, 4, 5);
        assertSameBits(logits(model), session.logits());
      }
      thrown(IllegalStateException.class, "the executor is closed", two::threads);
      thrown(MokaException.InvalidArgument.class, "threads", () -> model.newExecutor(-1, 0));
    }
  }
}
