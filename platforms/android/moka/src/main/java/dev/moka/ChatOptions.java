package dev.moka;

/** How a chat is made or opened. */
public final class ChatOptions {
  private static final String[] NAMES = {
    "templateId",
    "systemPrefix",
    "systemSuffix",
    "userPrefix",
    "userSuffix",
    "modelPrefix",
    "modelSuffix",
    "from"
  };

  private final String[] texts = new String[NAMES.length];
  private long savedStates = -1;
  private long stateBudgetBytes = -1;
  private SamplerOptions sampling = new SamplerOptions();
  private ModelExecutor executor;
  private ChatProgress progress;

  /** A file names this, and is opened with an equal one only. */
  public ChatOptions templateId(String id) {
    texts[0] = id;
    return this;
  }

  /**
   * What stands around the text of a turn of a role; the default is nothing. Special tokens in these are
   * themselves, those in a text that is given are plain text.
   */
  public ChatOptions around(Role role, String prefix, String suffix) {
    texts[1 + 2 * role.ordinal()] = prefix;
    texts[2 + 2 * role.ordinal()] = suffix;
    return this;
  }

  /** A prefix snapshot of the model, behind which the chat begins; a file names its own. */
  public ChatOptions from(String snapshot) {
    texts[7] = snapshot;
    return this;
  }

  /** For all turns; a file brings its own. Not said: as the author recommends, and a random seed. */
  public ChatOptions sampling(SamplerOptions options) {
    sampling = Check.notNull(options, "sampling");
    return this;
  }

  /** Null, the default: that of the model. */
  public ChatOptions executor(ModelExecutor executor) {
    this.executor = executor;
    return this;
  }

  /** States that a file has beside the current one; default 2. */
  public ChatOptions savedStates(int states) {
    savedStates = Check.atLeast(0, states, "savedStates");
    return this;
  }

  /** Memory for states at the ends of turns, so that going there reads nothing again; default 64 MiB. */
  public ChatOptions stateBudgetBytes(long bytes) {
    stateBudgetBytes = Check.atLeast(0, bytes, "stateBudgetBytes");
    return this;
  }

  /** Hears of reading, for as long as the chat lives. */
  public ChatOptions progress(ChatProgress listener) {
    progress = listener;
    return this;
  }

  /** In the order of Options in chat.cc. */
  byte[][] texts() {
    byte[][] bytes = new byte[texts.length][];
    for (int i = 0; i < texts.length; ++i) bytes[i] = Utf8.name(texts[i], NAMES[i]);
    return bytes;
  }

  long[] numbers() {
    return new long[] {savedStates, stateBudgetBytes};
  }

  SamplerOptions sampling() {
    return sampling;
  }

  ModelExecutor executor() {
    return executor;
  }

  ChatProgress progress() {
    return progress;
  }
}
