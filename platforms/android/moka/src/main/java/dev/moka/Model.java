package dev.moka;

import java.io.File;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * An opened model, which never changes. Any number of threads may use it; calls on one executor wait for
 * each other. Sessions, chats, samplers and executors that were made from it go on when it is closed, and
 * its memory is freed with the last of them.
 */
public final class Model implements AutoCloseable {
  private static final ReadOptions PLAIN = new ReadOptions();

  final Handle handle;
  private final ModelInfo info;

  private Model(long pointer, Handle memory) {
    handle = new Handle(Handle.Kind.MODEL, pointer, memory).of(this);
    ModelInfo read;
    try {
      long[] numbers = Native.infoNumbers(pointer);
      float[] levels = ModelInfo.forecasts(numbers) ? Native.quantiles(pointer) : new float[0];
      read = new ModelInfo(numbers, Native.infoNames(pointer), levels);
    } catch (RuntimeException | Error failure) {
      handle.close();
      throw failure;
    }
    info = read;
  }

  // ---- opening ----

  /** Opens a file; see {@link #open(File, OpenOptions)}. */
  public static Model open(String path) {
    return open(new File(path), new OpenOptions());
  }

  /** Opens a file; see {@link #open(File, OpenOptions)}. */
  public static Model open(File file) {
    return open(file, new OpenOptions());
  }

  /**
   * Maps a file, checks it and packs its weights. It may be renamed or deleted meanwhile, but must not be
   * overwritten in place.
   *
   * @throws MokaException.NotFound no such file
   * @throws MokaException.Corrupt the message names the part
   * @throws MokaException.Unsupported valid, but not for this build
   */
  public static Model open(File file, OpenOptions options) {
    return new Model(
        Native.openPath(
            Utf8.path(file), options.numbers(), options.kernels(), options.progress()),
        null);
  }

  /**
   * Opens `length` bytes at `offset` of an open file, or all of its rest with length 0: a model inside of a
   * package. The descriptor may be closed after the call, which neither closes nor moves it. The model is
   * mapped if `offset` is a multiple of 64, else read into memory.
   *
   * @throws MokaException.OutOfRange the file ends before
   */
  public static Model open(int descriptor, long offset, long length, OpenOptions options) {
    Check.atLeast(0, offset, "offset");
    Check.atLeast(0, length, "length");
    return new Model(
        Native.openFd(
            descriptor, offset, length, options.numbers(), options.kernels(), options.progress()),
        null);
  }

  /** Opens a model in memory, which is copied. */
  public static Model open(byte[] bytes, OpenOptions options) {
    Check.notNull(bytes, "bytes");
    Handle memory = new Handle(Handle.Kind.MEMORY, Native.copyMemory(bytes), null);
    long pointer = memory.enter();
    try {
      return new Model(
          Native.openMemory(
              pointer, bytes.length, options.numbers(), options.kernels(), options.progress()),
          memory);
    } finally {
      memory.close(); // by the model, when that is freed
      memory.leave();
    }
  }

  /** "1.2.3", of the library that runs. */
  public static String version() {
    return Utf8.text(Native.version());
  }

  public ModelInfo info() {
    return info;
  }

  // ---- text ----

  /**
   * The ids of a text; no token is added before or behind.
   *
   * @param special whether special tokens that stand in it, such as {@code <|endoftext|>}, become their ids;
   *     else they are plain text, as they should be in what a stranger wrote
   * @throws MokaException.Unsupported the model has no tokenizer
   */
  public int[] tokenize(String text, boolean special) {
    long model = handle.enter();
    try {
      return Native.tokenize(model, Utf8.bytes(text, "text"), special);
    } finally {
      handle.leave();
    }
  }

  /**
   * The text of ids; control tokens have none, and bytes that are no whole character become U+FFFD.
   *
   * @throws MokaException.OutOfRange no such id
   */
  public String detokenize(int... tokens) {
    long model = handle.enter();
    try {
      return Utf8.text(Native.detokenize(model, tokens));
    } finally {
      handle.leave();
    }
  }

  /** The bytes of one token, of a special one its name; they need not be whole characters. */
  public byte[] tokenBytes(int token) {
    long model = handle.enter();
    try {
      return Native.tokenText(model, token);
    } finally {
      handle.leave();
    }
  }

  /** The prefixes that the file ships already read. */
  public List<Snapshot> snapshots() {
    long model = handle.enter();
    try {
      long[] numbers = Native.snapshotNumbers(model);
      byte[][] names = Native.snapshotNames(model);
      List<Snapshot> snapshots = new ArrayList<>();
      for (int i = 0; 3 * i < numbers.length; ++i) {
        snapshots.add(
            new Snapshot(
                Utf8.text(names[2 * i]),
                Utf8.text(names[2 * i + 1]),
                numbers[3 * i] != 0,
                numbers[3 * i + 1],
                numbers[3 * i + 2]));
      }
      return Collections.unmodifiableList(snapshots);
    } finally {
      handle.leave();
    }
  }

  // ---- what is made from it ----

  /**
   * A sequence that is read and written step by step.
   *
   * @throws MokaException.FailedPrecondition a model that sees ahead, or compares two sequences, has none
   */
  public Session newSession() {
    return newSession(null);
  }

  /** A session on an executor of its own; null: on that of the model. */
  public Session newSession(ModelExecutor executor) {
    ReadOptions.Use use = new ReadOptions.Use(executor, null, null);
    try {
      long model = handle.enter();
      try {
        return new Session(this, Native.sessionCreate(model, use.executor));
      } finally {
        handle.leave();
      }
    } finally {
      use.end();
    }
  }

  public Sampler newSampler(SamplerOptions options) {
    handle.enter();
    try {
      return keptSampler(options.pack());
    } finally {
      handle.leave();
    }
  }

  /** The same for those that keep the model, also when it is closed. */
  Sampler keptSampler(SamplerOptions.Packed packed) {
    long sampler =
        Native.samplerCreate(
            handle.kept(),
            packed.given,
            packed.numbers,
            packed.counts,
            packed.biasTokens,
            packed.bias);
    return new Sampler(new Handle(Handle.Kind.SAMPLER, sampler, handle), packed.seed());
  }

  public TextStream newTextStream() {
    long model = handle.enter();
    try {
      return new TextStream(new Handle(Handle.Kind.STREAM, Native.streamCreate(model), handle));
    } finally {
      handle.leave();
    }
  }

  /** More threads that run this model; the arguments are those of {@link OpenOptions}, chunk 0: 128. */
  public ModelExecutor newExecutor(int threads, int chunk) {
    Check.atLeast(0, chunk, "chunk");
    long model = handle.enter();
    try {
      long executor = Native.executorCreate(model, threads, chunk);
      return new ModelExecutor(new Handle(Handle.Kind.EXECUTOR, executor, handle));
    } finally {
      handle.leave();
    }
  }

  /**
   * A conversation, or a text written in turns.
   *
   * @throws MokaException.Unsupported no causal language model with a tokenizer
   */
  public Chat newChat(ChatOptions options) {
    return Chat.make(this, options, null, null);
  }

  /**
   * A chat that {@link Chat#save} gave; the bytes are not trusted.
   *
   * @throws MokaException.Corrupt damaged bytes
   * @throws MokaException.FailedPrecondition of another model, template or prefix
   */
  public Chat openChat(byte[] saved, ChatOptions options) {
    return Chat.make(this, options, Check.notNull(saved, "saved"), null);
  }

  /** A chat that {@link Chat#saveFile} wrote. */
  public Chat openChat(File file, ChatOptions options) {
    return Chat.make(this, options, null, Utf8.path(file));
  }

  // ---- whole sequences ----
  // Each starts from an empty memory and keeps nothing. Text gets no token before or behind it.

  /**
   * The output: [steps][{@link ModelInfo#outputs}] of language models, regression and hidden states, one row
   * of classifiers and embeddings. Not for pair models.
   */
  public float[] read(Input input, ReadOptions options) {
    ReadOptions.Use use = options.use();
    try {
      long model = handle.enter();
      try {
        return Native.read(
            model,
            info.outputs,
            input.ids(model),
            input.numbers(),
            use.executor,
            use.memoryTokens(model),
            use.memoryValues(),
            use.progress);
      } finally {
        handle.leave();
      }
    } finally {
      use.end();
    }
  }

  /** The class of a text; needs a classifier. */
  public Classification classify(String text) {
    return classify(Input.text(text), PLAIN);
  }

  /** The class of a sequence; needs a classifier. */
  public Classification classify(Input input, ReadOptions options) {
    return classes(input, null, options);
  }

  /** The class of two sequences; needs a pair model. */
  public Classification compare(Input first, Input second, ReadOptions options) {
    return classes(first, Check.notNull(second, "second"), options);
  }

  private Classification classes(Input first, Input second, ReadOptions options) {
    float[] logits = new float[info.classes.size()];
    float[] probabilities = new float[logits.length];
    ReadOptions.Use use = options.use();
    try {
      long model = handle.enter();
      try {
        int best =
            second == null
                ? Native.classify(
                    model,
                    first.ids(model),
                    first.numbers(),
                    use.executor,
                    use.memoryTokens(model),
                    use.memoryValues(),
                    use.progress,
                    logits,
                    probabilities)
                : Native.compare(
                    model,
                    first.ids(model),
                    first.numbers(),
                    second.ids(model),
                    second.numbers(),
                    use.executor,
                    use.memoryTokens(model),
                    use.memoryValues(),
                    use.progress,
                    logits,
                    probabilities);
        return new Classification(best, info.classes.get(best), probabilities, logits);
      } finally {
        handle.leave();
      }
    } finally {
      use.end();
    }
  }

  /** The vector of a sequence, [{@link ModelInfo#outputs}]; needs an embedding head. */
  public float[] embed(Input input, ReadOptions options) {
    ReadOptions.Use use = options.use();
    try {
      long model = handle.enter();
      try {
        return Native.embed(
            model,
            info.outputs,
            input.ids(model),
            input.numbers(),
            use.executor,
            use.memoryTokens(model),
            use.memoryValues(),
            use.progress);
      } finally {
        handle.leave();
      }
    } finally {
      use.end();
    }
  }

  /** Cosine of the angle between two vectors of one size; 0 when one is zero. */
  public static double cosine(float[] a, float[] b) {
    if (a.length != b.length) {
      throw new MokaException.InvalidArgument(
          "a has " + a.length + " numbers and b " + b.length + ", must be equally many");
    }
    return Native.cosine(a, b);
  }

  /** How likely a language model finds a text as a whole, behind startToken. */
  public Score score(String text) {
    int start = info.startToken();
    int[] tokens = tokenize(text, false);
    if (start < 0) return score(tokens, 1, PLAIN);
    int[] all = new int[tokens.length + 1];
    all[0] = start;
    System.arraycopy(tokens, 0, all, 1, tokens.length);
    return score(all, 1, PLAIN);
  }

  /**
   * How likely a language model finds tokens[first ...), first at least 1, each given all before it.
   *
   * @throws MokaException.OutOfRange nothing to score
   */
  public Score score(int[] tokens, int first, ReadOptions options) {
    Check.atLeast(1, first, "first");
    int count = Math.max(0, tokens.length - first);
    double[] each = new double[count];
    int[] mostLikely = new int[count];
    int[] scored = new int[count];
    System.arraycopy(tokens, tokens.length - count, scored, 0, count);
    ReadOptions.Use use = options.use();
    try {
      long model = handle.enter();
      try {
        double all =
            Native.score(model, tokens, first, use.executor, use.progress, each, mostLikely);
        return new Score(all, each, scored, mostLikely);
      } finally {
        handle.leave();
      }
    } finally {
      use.end();
    }
  }

  /**
   * The `horizon` steps that follow `history`, [steps][{@link ModelInfo#features}], in the units of the
   * data; needs a regression head. A head that tells fewer steps at once reads its own medians for the rest.
   *
   * @throws MokaException.OutOfRange that needs as many outputs as features
   */
  public Forecast forecast(float[] history, int horizon, ReadOptions options) {
    Check.atLeast(1, horizon, "horizon");
    ReadOptions.Use use = options.use();
    try {
      long model = handle.enter();
      try {
        float[] values =
            Native.forecast(
                model,
                history,
                horizon,
                use.executor,
                use.memoryTokens(model),
                use.memoryValues(),
                use.progress);
        return new Forecast(horizon, info.forecastOutputs, info.forecastQuantiles, values);
      } finally {
        handle.leave();
      }
    } finally {
      use.end();
    }
  }

  /** Can be repeated, and come from any thread; calls that are running end first. */
  @Override
  public void close() {
    handle.close();
  }
}
