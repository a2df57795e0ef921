package dev.moka;

/**
 * The native methods, and what native code calls: this class alone is known by its names there, so the
 * rules for shrinking keep it whole.
 *
 * <p>A handle is valid in all of them, which {@link Handle} sees to. Of a pair (tokens, values) one is
 * null. Text is UTF-8 in bytes.
 */
final class Native {
  /** {@code MOKA_ABI_VERSION} of the header that these methods were written for. */
  private static final int ABI = 1;

  static {
    System.loadLibrary("moka_jni");
    if (abiVersion() != ABI) {
      throw new UnsatisfiedLinkError(
          "libmoka_jni.so has version " + abiVersion() + " of the C interface, not " + ABI);
    }
  }

  private Native() {}

  // ---- called by native code ----

  static boolean text(TextListener listener, byte[] text) {
    return listener.onText(Utf8.text(text));
  }

  static boolean progress(Progress listener, double share) {
    return listener.onProgress(share);
  }

  static boolean chatProgress(ChatProgress listener, long done, long total, boolean again) {
    return listener.onProgress(done, total, again);
  }

  static RuntimeException failure(int code, byte[] message) {
    return MokaException.of(code, Utf8.text(message));
  }

  // ---- models ----

  static native int abiVersion();

  static native byte[] version();

  static native void free(int kind, long handle);

  static native long openPath(byte[] path, long[] numbers, byte[] kernels, Progress progress);

  static native long openFd(
      int fd, long offset, long length, long[] numbers, byte[] kernels, Progress progress);

  static native long copyMemory(byte[] bytes);

  static native long openMemory(
      long memory, long size, long[] numbers, byte[] kernels, Progress progress);

  static native long[] infoNumbers(long model);

  static native byte[][] infoNames(long model);

  static native float[] quantiles(long model);

  static native long[] snapshotNumbers(long model);

  static native byte[][] snapshotNames(long model);

  static native int[] tokenize(long model, byte[] text, boolean special);

  static native byte[] detokenize(long model, int[] tokens);

  static native byte[] tokenText(long model, int token);

  static native long streamCreate(long model);

  static native byte[] streamPush(long stream, int token);

  static native byte[] streamFinish(long stream);

  static native long executorCreate(long model, int threads, int chunk);

  static native int executorThreads(long executor);

  static native long executorScratchBytes(long executor);

  // ---- samplers ----

  static native long samplerCreate(
      long model, int given, float[] numbers, long[] counts, int[] biasTokens, float[] bias);

  static native int samplerSample(long sampler, float[] logits);

  static native void samplerAccept(long sampler, int[] tokens);

  static native void samplerReset(long sampler);

  static native byte[] samplerSave(long sampler);

  static native void samplerRestore(long sampler, byte[] state);

  // ---- sessions ----

  static native long sessionCreate(long model, long executor);

  static native long sessionFork(long session);

  static native void sessionFree(long session);

  static native void sessionAppend(long session, int[] tokens, float[] values);

  static native float[] sessionAppendRows(long session, int width, int[] tokens, float[] values);

  static native void sessionAppendMemory(long session, int[] tokens, float[] values);

  static native float[] sessionLogits(long session);

  static native int sessionStep(long session, long sampler);

  static native void sessionCheckGenerate(
      long session, long[] numbers, int[] stopTokens, byte[][] stopTexts, int[] lookupTokens);

  static native long[] sessionGenerate(
      long session,
      long sampler,
      long[] numbers,
      int[] stopTokens,
      byte[][] stopTexts,
      int[] lookupTokens,
      TextListener listener);

  static native long sessionPosition(long session);

  static native long sessionMemoryPosition(long session);

  static native byte[] sessionSave(long session, int room);

  static native void sessionRestore(long session, byte[] state);

  static native void sessionSaveFile(long session, byte[] path);

  static native void sessionRestoreFile(long session, byte[] path);

  static native void sessionRestoreSnapshot(long session, byte[] name);

  static native void sessionReset(long session);

  static native void sessionCancel(long session);

  static native void sessionAbsorb(long session, int features);

  // ---- whole sequences ----

  static native float[] read(
      long model,
      int width,
      int[] tokens,
      float[] values,
      long executor,
      int[] memoryTokens,
      float[] memoryValues,
      Progress progress);

  static native int classify(
      long model,
      int[] tokens,
      float[] values,
      long executor,
      int[] memoryTokens,
      float[] memoryValues,
      Progress progress,
      float[] logits,
      float[] probabilities);

  static native int compare(
      long model,
      int[] firstTokens,
      float[] firstValues,
      int[] secondTokens,
      float[] secondValues,
      long executor,
      int[] memoryTokens,
      float[] memoryValues,
      Progress progress,
      float[] logits,
      float[] probabilities);

  static native float[] embed(
      long model,
      int width,
      int[] tokens,
      float[] values,
      long executor,
      int[] memoryTokens,
      float[] memoryValues,
      Progress progress);

  static native double score(
      long model,
      int[] tokens,
      int first,
      long executor,
      Progress progress,
      double[] logLikelihoods,
      int[] mostLikely);

  static native float[] forecast(
      long model,
      float[] history,
      int horizon,
      long executor,
      int[] memoryTokens,
      float[] memoryValues,
      Progress progress);

  static native double cosine(float[] a, float[] b);

  // ---- chats ----

  static native long chatCreate(
      long model,
      long executor,
      byte[][] texts,
      long[] numbers,
      int given,
      float[] samplingNumbers,
      long[] samplingCounts,
      int[] biasTokens,
      float[] bias,
      byte[] saved,
      byte[] path,
      ChatProgress progress);

  static native void chatFree(long chat);

  static native void chatCancel(long chat);

  static native void chatAbsorb(long chat);

  static native long[] chatAppend(long chat, int role, byte[] text, ChatProgress progress);

  static native long[] chatBranch(
      long chat, long after, int role, byte[] text, ChatProgress progress);

  static native long[] chatEdit(long chat, long turn, byte[] text, ChatProgress progress);

  static native long[] chatGenerate(
      long chat,
      boolean again,
      long[] numbers,
      int[] stopTokens,
      byte[][] stopTexts,
      TextListener listener,
      boolean samples,
      long model,
      int given,
      float[] samplingNumbers,
      long[] samplingCounts,
      int[] biasTokens,
      float[] bias,
      ChatProgress progress);

  static native long[] chatUndo(long chat, ChatProgress progress);

  static native long[] chatSwitchTo(long chat, long turn, ChatProgress progress);

  static native void chatRemove(long chat, long turn);

  static native byte[] chatSave(long chat, int room);

  static native void chatSaveFile(long chat, byte[] path);

  static native long chatCurrent(long chat);

  static native long[] chatTurns(long chat);

  static native long[] chatPath(long chat);

  static native long[] chatTurnNumbers(long chat, long turn);

  static native byte[] chatTurnText(long chat, long turn);

  static native int[] chatTurnTokens(long chat, long turn);

  static native long chatKeptStateBytes(long chat);

  static native byte[] chatFrom(long chat);

  static native float[] chatLogits(long chat);
}
