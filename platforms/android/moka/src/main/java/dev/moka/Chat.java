package dev.moka;

import java.io.File;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * A conversation, or a text written in turns; made by {@link Model#newChat}. Turns form a tree: what is
 * undone, edited or written anew stays in it until it is removed. One turn is the current one; append() and
 * generate() put the next one behind it.
 *
 * <p>Every call is a transaction: one that fails, is cancelled or whose listener throws leaves the chat as
 * it was. A turn that was ended by its listener's answer, a stop or a budget is kept with what it has.
 *
 * <p>One thread at a time, no matter which; a second one gets an {@link IllegalStateException}. {@link
 * #cancel} and {@link #close} come from any thread.
 *
 * <p>Besides the common failures: {@link MokaException.OutOfRange} beyond the model's position limit, {@link
 * MokaException.NotFound} for a turn that is not there.
 */
public final class Chat implements AutoCloseable {
  /** Where nothing was read: the parent of first turns. */
  public static final long START = 0;

  private static final int FIRST_ROOM = 1 << 16;

  private final Model model;
  private final Handle handle;
  private final ChatProgress progress;
  private final long seed;
  private int room = FIRST_ROOM; // of what save() gave last

  private Chat(Model model, long pointer, ChatProgress progress, long seed) {
    this.model = model;
    this.progress = progress;
    this.seed = seed;
    handle = new Handle(Handle.Kind.CHAT, pointer, model.handle).of(this);
  }

  static Chat make(Model model, ChatOptions options, byte[] saved, byte[] path) {
    SamplerOptions.Packed sampling = options.sampling().pack();
    ReadOptions.Use use = new ReadOptions.Use(options.executor(), null, null);
    try {
      long pointer = model.handle.enter();
      try {
        long chat =
            Native.chatCreate(
                pointer,
                use.executor,
                options.texts(),
                options.numbers(),
                sampling.given,
                sampling.numbers,
                sampling.counts,
                sampling.biasTokens,
                sampling.bias,
                saved,
                path,
                options.progress());
        return new Chat(model, chat, options.progress(), sampling.seed());
      } finally {
        model.handle.leave();
      }
    } finally {
      use.end();
    }
  }

  public Model model() {
    return model;
  }

  /** What the draws of a new chat began from. */
  public long seed() {
    return seed;
  }

  // ---- turns that are given ----

  /** Puts a turn behind the current one. */
  public ChatStep append(Role role, String text) {
    long chat = handle.begin();
    try {
      return new ChatStep(
          Native.chatAppend(chat, role.ordinal(), Utf8.bytes(text, "text"), progress));
    } finally {
      handle.leave();
    }
  }

  /** Puts a turn behind any turn, or behind {@link #START}. */
  public ChatStep branch(long after, Role role, String text) {
    long chat = handle.begin();
    try {
      return new ChatStep(
          Native.chatBranch(chat, after, role.ordinal(), Utf8.bytes(text, "text"), progress));
    } finally {
      handle.leave();
    }
  }

  /** Puts a turn beside one, with its role. */
  public ChatStep edit(long turn, String text) {
    long chat = handle.begin();
    try {
      return new ChatStep(Native.chatEdit(chat, turn, Utf8.bytes(text, "text"), progress));
    } finally {
      handle.leave();
    }
  }

  // ---- turns that the model writes ----

  /**
   * Lets the model write a turn behind the current one.
   *
   * @param sampling null: as before; else it holds from this turn on
   * @param listener gets the text as it comes; may be null
   */
  public ChatStep generate(
      GenerateOptions options, SamplerOptions sampling, TextListener listener) {
    return write(false, options, sampling, listener);
  }

  /** The same beside the current turn, when the model wrote that one. */
  public ChatStep regenerate(
      GenerateOptions options, SamplerOptions sampling, TextListener listener) {
    return write(true, options, sampling, listener);
  }

  private ChatStep write(
      boolean again, GenerateOptions options, SamplerOptions sampling, TextListener listener) {
    SamplerOptions.Packed packed = (sampling == null ? new SamplerOptions() : sampling).pack();
    long chat = handle.begin();
    try {
      return new ChatStep(
          Native.chatGenerate(
              chat,
              again,
              options.numbers(),
              options.stopTokens(),
              options.stopTexts(),
              listener,
              sampling != null,
              model.handle.kept(),
              packed.given,
              packed.numbers,
              packed.counts,
              packed.biasTokens,
              packed.bias,
              progress));
    } finally {
      handle.leave();
    }
  }

  /**
   * Ends the running call with {@link MokaException.Cancelled}, the chat as it was before it; if none is
   * running, does nothing. Any thread, listeners too.
   */
  public void cancel() {
    handle.cancel();
  }

  // ---- other turns ----

  /**
   * Goes to the parent of the current turn.
   *
   * @throws MokaException.FailedPrecondition at the start
   */
  public ChatStep undo() {
    long chat = handle.begin();
    try {
      return new ChatStep(Native.chatUndo(chat, progress));
    } finally {
      handle.leave();
    }
  }

  /** Goes to any turn, or to {@link #START}. */
  public ChatStep switchTo(long turn) {
    long chat = handle.begin();
    try {
      return new ChatStep(Native.chatSwitchTo(chat, turn, progress));
    } finally {
      handle.leave();
    }
  }

  /**
   * Removes a turn and all that follow it.
   *
   * @throws MokaException.FailedPrecondition the current one is of them
   */
  public void remove(long turn) {
    long chat = handle.enter();
    try {
      Native.chatRemove(chat, turn);
    } finally {
      handle.leave();
    }
  }

  /** The id of the current turn; {@link #START} where nothing was read. */
  public long current() {
    long chat = handle.enter();
    try {
      return Native.chatCurrent(chat);
    } finally {
      handle.leave();
    }
  }

  /** One of the turns. */
  public Turn turn(long id) {
    long chat = handle.enter();
    try {
      return turn(chat, id);
    } finally {
      handle.leave();
    }
  }

  /** All of the tree, ids rising. */
  public List<Turn> turns() {
    long chat = handle.enter();
    try {
      return turns(chat, Native.chatTurns(chat));
    } finally {
      handle.leave();
    }
  }

  /** From the first turn to the current one. */
  public List<Turn> path() {
    long chat = handle.enter();
    try {
      return turns(chat, Native.chatPath(chat));
    } finally {
      handle.leave();
    }
  }

  private static Turn turn(long chat, long id) {
    return new Turn(
        Native.chatTurnNumbers(chat, id),
        Native.chatTurnText(chat, id),
        Native.chatTurnTokens(chat, id));
  }

  private static List<Turn> turns(long chat, long[] ids) {
    List<Turn> turns = new ArrayList<>();
    for (long id : ids) turns.add(turn(chat, id));
    return Collections.unmodifiableList(turns);
  }

  // ---- the rest ----

  /** The output at the end of the current turn, [{@link ModelInfo#outputs}]; empty at the start. */
  public float[] logits() {
    long chat = handle.enter();
    try {
      return Native.chatLogits(chat);
    } finally {
      handle.leave();
    }
  }

  /** The prefix snapshot that it began from, "" if none. */
  public String from() {
    long chat = handle.enter();
    try {
      return Utf8.text(Native.chatFrom(chat));
    } finally {
      handle.leave();
    }
  }

  public long keptStateBytes() {
    long chat = handle.enter();
    try {
      return Native.chatKeptStateBytes(chat);
    } finally {
      handle.leave();
    }
  }

  /** All turns, and the states of some; {@link Model#openChat} goes on there with the same bits. */
  public byte[] save() {
    long chat = handle.enter();
    try {
      byte[] saved = Native.chatSave(chat, room);
      room = Math.max(FIRST_ROOM, saved.length);
      return saved;
    } finally {
      handle.leave();
    }
  }

  /** The same in a file, which is written under another name, synced and renamed. */
  public void saveFile(File file) {
    long chat = handle.enter();
    try {
      Native.chatSaveFile(chat, Utf8.path(file));
    } finally {
      handle.leave();
    }
  }

  /** Ends a running call as {@link #cancel} does, and returns at once. Can be repeated. */
  @Override
  public void close() {
    handle.close();
  }
}
