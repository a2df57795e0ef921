package dev.moka;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** What a model is, and what it needs. Tokens that it has not are -1. */
public final class ModelInfo {
  /** What a step of the input is. */
  public enum In {
    /** An id. */
    TOKENS,
    /** {@link ModelInfo#features} floats. */
    VALUES,
    /** A grey value; a sequence is an image, row by row. */
    PIXELS
  }

  /** What a row of output is. */
  public enum Out {
    /** The hidden state of a step. */
    HIDDEN,
    /** Scores of the next token. */
    LANGUAGE,
    /** Scores of the classes, for everything read. */
    CLASSIFIER,
    /** Scores of the classes, for two sequences. */
    PAIR,
    /** [forecastSteps][forecastOutputs][forecastQuantiles] numbers. */
    REGRESSION,
    /** A vector for everything read. */
    EMBEDDING
  }

  public final String name;
  public final String architecture;
  /** Those in use: "scalar", "neon", "avx2" or "avx512". */
  public final String kernels;
  /** Names of the classes of a classifier or pair model, "0", "1", ... where the file has none. */
  public final List<String> classes;
  /** Levels of the quantiles of a forecast, rising; none when it tells the mean. */
  public final List<Float> quantiles;

  public final In input;
  public final Out output;
  /** Sessions read it; others read whole sequences only. */
  public final boolean causal;
  /** It answers from a second sequence, which is read first. */
  public final boolean readsMemory;
  /** It reads text. */
  public final boolean hasTokenizer;
  public final int width;
  public final int layers;
  /** Ids are 0 to vocabSize - 1; 0: it reads no tokens. */
  public final int vocabSize;
  /** Floats of a step; 0: it reads tokens. */
  public final int features;
  public final int imageWidth;
  public final int imageHeight;
  /** Floats in a row of output. */
  public final int outputs;
  /** Of a regression head, else 0: steps told at once. */
  public final int forecastSteps;
  /** Numbers per step. */
  public final int forecastOutputs;
  /** Quantiles of each number; 1 when it is the mean. */
  public final int forecastQuantiles;
  /** Of the executor that the model has from the start. */
  public final int threads;
  /** Left out by a pooling head. */
  public final int padding;
  public final int beginToken;
  public final int endToken;
  public final int unknownToken;
  /** Numbers in the tensors, shared ones once. */
  public final long parameters;
  /** Of the tensors in the file. */
  public final long weightBytes;
  /** Memory of a session's state, whatever it has read. */
  public final long stateBytes;
  /** What each token adds to it: 0, except for softmax attention. */
  public final long stateBytesPerToken;
  /** Tokens that a session may read; 0: no limit. */
  public final long positionLimit;
  /** Of the file, an unsigned number; sessions are restored into an equal one only. */
  public final long fingerprint;

  ModelInfo(long[] numbers, byte[][] names, float[] levels) {
    name = Utf8.text(names[0]);
    architecture = Utf8.text(names[1]);
    kernels = Utf8.text(names[2]);
    List<String> labels = new ArrayList<>();
    for (int i = 3; i < names.length; ++i) labels.add(Utf8.text(names[i]));
    classes = Collections.unmodifiableList(labels);
    List<Float> rising = new ArrayList<>();
    for (float level : levels) rising.add(level);
    quantiles = Collections.unmodifiableList(rising);
    // The order is that of info_numbers() in model.cc.
    int i = 0;
    input = In.values()[(int) numbers[i++]];
    output = Out.values()[(int) numbers[i++]];
    causal = numbers[i++] != 0;
    readsMemory = numbers[i++] != 0;
    hasTokenizer = numbers[i++] != 0;
    width = (int) numbers[i++];
    layers = (int) numbers[i++];
    vocabSize = (int) numbers[i++];
    features = (int) numbers[i++];
    imageWidth = (int) numbers[i++];
    imageHeight = (int) numbers[i++];
    outputs = (int) numbers[i++];
    ++i; // the number of classes
    forecastSteps = (int) numbers[i++];
    forecastOutputs = (int) numbers[i++];
    forecastQuantiles = (int) numbers[i++];
    threads = (int) numbers[i++];
    padding = (int) numbers[i++];
    beginToken = (int) numbers[i++];
    endToken = (int) numbers[i++];
    unknownToken = (int) numbers[i++];
    parameters = numbers[i++];
    weightBytes = numbers[i++];
    stateBytes = numbers[i++];
    stateBytesPerToken = numbers[i++];
    positionLimit = numbers[i++];
    fingerprint = numbers[i];
  }

  /** Of the numbers of a constructor, whether there are quantiles, be it one that is the mean. */
  static boolean forecasts(long[] numbers) {
    return numbers[15] != 0;
  }

  /** What a text begins with: beginToken, else endToken, else -1. */
  public int startToken() {
    return beginToken >= 0 ? beginToken : endToken;
  }
}
