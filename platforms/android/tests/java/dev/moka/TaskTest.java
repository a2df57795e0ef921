package dev.moka;

import static dev.moka.Testing.FORECASTER;
import static dev.moka.Testing.LISTOPS;
import static dev.moka.Testing.STORIES;
import static dev.moka.Testing.TREE;
import static dev.moka.Testing.assertSameBits;
import static dev.moka.Testing.thrown;
import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** The calls that take a whole sequence. */
public final class TaskTest {
  private static final ReadOptions PLAIN = new ReadOptions();

  @Rule public final TemporaryFolder folder = new TemporaryFolder();

  /** The first number behind a key in a line of JSON. */
  private static double number(String json, String key) {
    Matcher found = Pattern.compile("\"" + key + "\": *(-?[0-9.e+-]+)").matcher(json);
    assertTrue(json, found.find());
    return Double.parseDouble(found.group(1));
  }

  @Test
  public void aClass() {
    try (Model model = Model.open(LISTOPS);
        ModelExecutor executor = model.newExecutor(1, 16)) {
      String text = "[MIN 4 [MAX 2 8 ] 7 ]";
      Classification answer = model.classify(text);
      assertEquals(4, answer.best);
      assertEquals("4", answer.label);
      float sum = 0;
      for (float share : answer.probabilities) sum += share;
      assertEquals(1, sum, 1e-5);
      for (float logit : answer.logits) assertTrue(logit <= answer.logits[4]);
      String told = Testing.text(Testing.command("classify", LISTOPS, "-p", text, "--json"));
      assertTrue(told, told.contains("\"label\":\"4\"") || told.contains("\"label\": \"4\""));
      int[] ids = model.tokenize(text, false);
      Classification same = model.classify(Input.tokens(ids), new ReadOptions().executor(executor));
      assertSameBits(answer.logits, same.logits);
      assertSameBits(answer.logits, model.read(Input.tokens(ids), PLAIN));
      thrown(MokaException.OutOfRange.class, "", () -> model.classify(Input.tokens(99999), PLAIN));
      thrown(MokaException.InvalidArgument.class, "", () -> model.classify(""));
      thrown(
          MokaException.InvalidArgument.class, "", () -> model.forecast(new float[] {1}, 1, PLAIN));
    }
  }

  @Test
  public void progressHearsAndEnds() {
    try (Model model = Model.open(STORIES)) {
      int[] tokens = new int[600];
      List<Double> shares = new ArrayList<>();
      model.score(
          tokens,
          1,
          new ReadOptions()
              .progress(
                  share -> {
                    shares.add(share);
                    return true;
                  }));
      assertTrue(shares.size() > 2);
      assertEquals(1, shares.get(shares.size() - 1), 0);
      thrown(
          MokaException.Cancelled.class,
          "",
          () -> model.score(tokens, 1, new ReadOptions().progress(share -> share < 0.4)));
      thrown(
          ArithmeticException.class,
          "mine",
          () ->
              model.read(
                  Input.tokens(tokens),
                  new ReadOptions()
                      .progress(
                          share -> {
                            throw new ArithmeticException("mine");
                          })));
    }
  }

  @Test
  public void aScore() {
    try (Model model = Model.open(STORIES)) {
      Score score = model.score("Once upon a time");
      String told =
          Testing.text(Testing.command("score", STORIES, "-p", "Once upon a time", "--json"));
      assertEquals(number(told, "log_likelihood"), score.logLikelihood, 1e-4);
      assertArrayEquals(model.tokenize("Once upon a time", false), score.tokens);
      assertEquals(score.tokens.length, score.mostLikely.length);
      assertEquals(score.logLikelihood, Arrays.stream(score.logLikelihoods).sum(), 1e-6);
      Score last = model.score(new int[] {0, 5, 6, 7}, 3, PLAIN);
      assertArrayEquals(new int[] {7}, last.tokens);
      assertEquals(1, last.logLikelihoods.length);
      thrown(MokaException.OutOfRange.class, "", () -> model.score(new int[] {1}, 1, PLAIN));
      thrown(
          MokaException.InvalidArgument.class,
          "first is 0",
          () -> model.score(new int[] {1, 2}, 0, PLAIN));
    }
  }

  @Test
  public void aForecast() throws IOException {
    List<Float> history = new ArrayList<>();
    for (String line : Files.readAllLines(TREE.resolve("models/ecg-example.csv"))) {
      String cell = line.substring(line.lastIndexOf(',') + 1);
      if (cell.matches("-?[0-9.]+")) history.add(Float.parseFloat(cell));
    }
    assertTrue(history.size() > 500);
    float[] values = new float[history.size()];
    for (int i = 0; i < values.length; ++i) values[i] = history.get(i);
    String[] told =
        Testing.text(
                Testing.command(
                    "forecast", FORECASTER, TREE.resolve("models/ecg-example.csv").toString()))
            .strip()
            .split("\n");
    assertEquals("step,q0.1,q0.5,q0.9", told[0]);
    try (Model model = Model.open(FORECASTER)) {
      Forecast next = model.forecast(values, told.length - 1, PLAIN);
      assertEquals(told.length - 1, next.steps);
      assertEquals(1, next.outputs);
      assertEquals(3, next.quantiles);
      for (int step = 0; step < next.steps; ++step) {
        String[] cells = told[step + 1].split(",");
        for (int q = 0; q < 3; ++q) {
          assertEquals(Double.parseDouble(cells[1 + q]), next.at(step, 0, q), 1e-3);
        }
      }
      thrown(
          MokaException.OutOfRange.class,
          "there is no [0][1][0]",
          () -> next.at(0, 1, 0));
      thrown(
          MokaException.InvalidArgument.class,
          "horizon is 0",
          () -> model.forecast(values, 0, PLAIN));
      thrown(
          MokaException.InvalidArgument.class,
          "",
          () -> model.forecast(new float[] {Float.NaN}, 1, PLAIN));
    }
  }

  @Test
  public void vectors() throws IOException {
    String head =
        "\"tie_word_embeddings\": false, \"pooling\": \"mean\", \"head\": \"embedding\"";
    try (Model model = Model.open(Testing.small(folder.getRoot(), "vectors", head))) {
      assertEquals(ModelInfo.Out.EMBEDDING, model.info().output);
      float[] a = model.embed(Input.text("hello"), PLAIN);
      float[] b = model.embed(Input.text("world"), PLAIN);
      assertEquals(model.info().outputs, a.length);
      assertEquals(1, Model.cosine(a, a), 1e-6);
      assertTrue(Model.cosine(a, b) < 0.9999);
      assertEquals(0, Model.cosine(a, new float[a.length]), 0);
      thrown(
          MokaException.InvalidArgument.class,
          "a has 86 numbers and b 3",
          () -> Model.cosine(a, new float[3]));
    }
    try (Model model = Model.open(LISTOPS)) {
      thrown(MokaException.InvalidArgument.class, "", () -> model.embed(Input.text("1"), PLAIN));
      thrown(
          MokaException.InvalidArgument.class,
          "",
          () -> model.compare(Input.text("1"), Input.text("2"), PLAIN));
    }
  }
}
