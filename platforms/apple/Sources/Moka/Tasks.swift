import CMoka

/// How a whole sequence is read.
public struct ReadOptions: Sendable {
  /// nil: the model's own.
  public var executor: ModelExecutor?
  /// For models with `ModelInfo.readsMemory`: the sequence to answer from.
  public var memory: Input?
  /// Told the share that is done, 0 to 1.
  public var progress: (@Sendable (Double) -> Void)?

  public init(
    executor: ModelExecutor? = nil, memory: Input? = nil,
    progress: (@Sendable (Double) -> Void)? = nil
  ) {
    self.executor = executor
    self.memory = memory
    self.progress = progress
  }
}

/// A class, and how likely it is.
public struct Classification: Sendable, Hashable {
  /// The likeliest class, the first of equal ones.
  public let best: Int
  /// Its name.
  public let label: String
  /// One of each class.
  public let probabilities: [Float]
  public let logits: [Float]
}

/// How likely a language model finds a text.
public struct Score: Sendable, Hashable {
  /// Natural logarithm of the probability of all scored tokens together.
  public let logLikelihood: Double
  /// The same, token by token.
  public let logLikelihoods: [Double]
  /// Those that were scored.
  public let tokens: [Token]
  /// The token that the model put in the place of each.
  public let mostLikely: [Token]
}

/// How a series goes on, in the units of the data.
public struct Forecast: Sendable, Hashable {
  /// `[steps][outputs][quantiles]` in this order.
  public let values: [Float]
  public let steps: Int
  public let outputs: Int
  /// At the levels `ModelInfo.quantiles`; 1 when it is the mean.
  public let quantiles: Int

  public subscript(step: Int, output: Int, quantile: Int) -> Float {
    precondition(output >= 0 && output < outputs && quantile >= 0 && quantile < quantiles)
    return values[(step * outputs + output) * quantiles + quantile]
  }
}

/// Whole sequences, for causal models and others. Each call starts from an empty memory and keeps
/// nothing. Any task may make them; those on one executor wait for each other. The cancellation of the
/// task ends them with `CancellationError`.
///
/// Text gets no token before or behind it, except as `score` says. Tokens equal to
/// `ModelInfo.paddingToken` are left out.
///
/// They throw `invalidArgument` for a model with another head, for what the model does not read, an empty
/// sequence, values that are not finite or not whole steps; `outOfRange` for a token outside the
/// vocabulary, a sequence longer than the model allows, an image of another size.
extension Model {
  /// The class of a sequence; needs a classifier.
  public func classify(_ input: Input, options: ReadOptions = ReadOptions()) async throws
    -> Classification
  {
    let steps = try Steps(input, of: self)
    return try await classes(options) { model, options, classes, error in
      steps.native {
        moka_classify(model, $0, options, classes.logits, classes.probabilities, classes.count,
          classes.best, error)
      }
    }
  }

  /// The class of two sequences; needs a pair model.
  public func compare(_ first: Input, _ second: Input, options: ReadOptions = ReadOptions())
    async throws -> Classification
  {
    let (first, second) = (try Steps(first, of: self), try Steps(second, of: self))
    return try await classes(options) { model, options, classes, error in
      first.native { first in
        second.native { second in
          moka_compare(model, first, second, options, classes.logits, classes.probabilities,
            classes.count, classes.best, error)
        }
      }
    }
  }

  /// The vector of a sequence, `info.outputs` numbers; needs an embedding head.
  public func embed(_ input: Input, options: ReadOptions = ReadOptions()) async throws -> [Float] {
    let steps = try Steps(input, of: self)
    return try await read(options) { model, options in
      var vector = [Float](repeating: 0, count: self.info.outputs)
      try steps.native { steps in
        try check { moka_embed(model, steps, options, &vector, self.info.outputs, nil, $0) }
      }
      return vector
    }
  }

  /// Cosine of the angle between two vectors of one size; 0 when one is zero.
  public static func cosineSimilarity(_ a: [Float], _ b: [Float]) throws -> Double {
    guard a.count == b.count else {
      throw MokaError(.invalidArgument, "a has \(a.count) numbers and b \(b.count)")
    }
    return moka_cosine_similarity(a, b, a.count)
  }

  /// How likely a language model finds a text, as a whole, behind `info.startToken` and `context`, as
  /// `moka score` does; where there is neither, its first token is not scored.
  public func score(
    _ text: String, after context: String = "", options: ReadOptions = ReadOptions()
  ) async throws -> Score {
    var before = info.startToken.map { [$0] } ?? []
    if !context.isEmpty { before += try tokens(of: context) }
    return try await score(
      before + tokens(of: text), from: max(1, before.count), options: options)
  }

  /// The same of the ids from place `first` on, at least 1, each given all before it. `outOfRange`:
  /// nothing to score.
  public func score(_ tokens: [Token], from first: Int = 1, options: ReadOptions = ReadOptions())
    async throws -> Score
  {
    let start: UInt = try checked("first", first)
    let count = max(0, tokens.count - first)
    return try await read(options) { model, options in
      var total = 0.0
      var each = [Double](repeating: 0, count: count)
      var likely = [Token](repeating: 0, count: count)
      try check {
        moka_score(model, tokens, tokens.count, Int(start), options, &total, &each, &likely, count, $0)
      }
      return Score(
        logLikelihood: total, logLikelihoods: each, tokens: Array(tokens.suffix(count)),
        mostLikely: likely)
    }
  }

  /// The `horizon` steps that follow `history`, `[steps][info.features]`; needs a regression head. A head
  /// that tells fewer steps at once reads its own medians for the rest, which needs as many outputs as
  /// features, else `outOfRange`.
  public func forecast(
    _ history: [Float], horizon: Int, options: ReadOptions = ReadOptions()
  ) async throws -> Forecast {
    guard horizon > 0 else {
      throw MokaError(.invalidArgument, "horizon is \(horizon), must be at least 1")
    }
    let info = info
    return try await read(options) { model, options in
      let values = try numbers(Float(0)) {
        moka_forecast(model, history, history.count, horizon, options, $0, $1, $2, $3)
      }
      return Forecast(
        values: values, steps: horizon, outputs: info.forecastOutputs,
        quantiles: info.forecastQuantiles)
    }
  }

  // MARK: inside

  /// Where a call puts classes.
  private struct Classes {
    let logits, probabilities: UnsafeMutablePointer<Float>?
    let best: UnsafeMutablePointer<UInt32>
    let count: Int
  }

  private func classes(
    _ options: ReadOptions,
    _ call: @escaping @Sendable (
      OpaquePointer, UnsafePointer<moka_read_options>, Classes, UnsafeMutablePointer<moka_error>
    ) -> moka_status
  ) async throws -> Classification {
    let info = info
    return try await read(options) { model, options in
      var logits = [Float](repeating: 0, count: info.classes.count)
      var probabilities = logits
      var best: UInt32 = 0
      try logits.withUnsafeMutableBufferPointer { logits in
        try probabilities.withUnsafeMutableBufferPointer { probabilities in
          try withUnsafeMutablePointer(to: &best) { best in
            let classes = Classes(
              logits: logits.baseAddress, probabilities: probabilities.baseAddress, best: best,
              count: logits.count)
            try check { call(model, options, classes, $0) }
          }
        }
      }
      return Classification(
        best: Int(best), label: info.classes[Int(best)], probabilities: probabilities,
        logits: logits)
    }
  }

  private func read<Value: Sendable>(
    _ options: ReadOptions,
    _ work: @escaping @Sendable (OpaquePointer, UnsafePointer<moka_read_options>) throws -> Value
  ) async throws -> Value {
    let watch = Watch(options.progress)
    let memory = try options.memory.map { try Steps($0, of: self) }
    return try await onQueue((options.executor ?? executor).queue, watch) {
      var raw = moka_read_options()
      moka_read_options_init(&raw, UInt32(MemoryLayout<moka_read_options>.size))
      raw.executor = options.executor.map { $0.handle.pointer }
      raw.progress = hearProgress
      raw.progress_user = watch.pointer
      guard let memory else { return try work(self.handle.pointer, &raw) }
      return try memory.native {
        raw.memory = $0
        return try work(self.handle.pointer, &raw)
      }
    }
  }
}
