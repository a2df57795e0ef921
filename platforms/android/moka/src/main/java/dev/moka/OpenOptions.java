package dev.moka;

/** How a model is opened; what is not said has the defaults of moka.h. */
public final class OpenOptions {
  private final long[] numbers = new long[7];
  private String kernels;
  private Progress progress;

  /** 0, the default: one per core, at most 4; else 1 to 256. */
  public OpenOptions threads(int threads) {
    numbers[0] = threads;
    return this;
  }

  /** Tokens of a prompt that are read at once, 1 to 1024; default 128. */
  public OpenOptions chunk(int tokens) {
    numbers[1] = Check.atLeast(1, tokens, "chunk");
    return this;
  }

  /** Read the whole file and compare it with its checksums first; else the header alone. */
  public OpenOptions checkData(boolean check) {
    numbers[2] = check ? 1 : 0;
    return this;
  }

  /** "scalar", "neon", "avx2" or "avx512"; null, the default: the best of this CPU. */
  public OpenOptions kernels(String name) {
    kernels = name;
    return this;
  }

  /** Hears of {@link #checkData}. */
  public OpenOptions progress(Progress listener) {
    progress = listener;
    return this;
  }

  /** What a file that nobody vouches for may ask for, as moka_open_options has it; 0: its default. */
  public OpenOptions limits(long headerBytes, long tensors, long vocabSize, long memoryBytes) {
    numbers[3] = Check.atLeast(0, headerBytes, "headerBytes");
    numbers[4] = Check.atLeast(0, tensors, "tensors");
    numbers[5] = Check.atLeast(0, vocabSize, "vocabSize");
    numbers[6] = Check.atLeast(0, memoryBytes, "memoryBytes");
    return this;
  }

  /** Threads, chunk, checkData, limits: in the order of Opening in model.cc. */
  long[] numbers() {
    return numbers.clone();
  }

  byte[] kernels() {
    return Utf8.name(kernels, "kernels");
  }

  Progress progress() {
    return progress;
  }
}
