import CMoka

/// The id of a token.
public typealias Token = Int32

/// What there is to know of a model.
public struct ModelInfo: Sendable, Hashable {
  /// What a model reads, step by step.
  public enum Input: Int32, Sendable, Hashable {
    /// Token ids.
    case tokens = 0
    /// `features` numbers, in the units of the data.
    case values = 1
    /// A grey value; a sequence is an image, row by row.
    case pixels = 2
  }

  /// What a row of output is.
  public enum Output: Int32, Sendable, Hashable {
    /// The hidden state of a step.
    case hidden = 0
    /// Scores of the next token.
    case language = 1
    /// Scores of the classes, for everything read.
    case classifier = 2
    /// Scores of the classes, for two sequences.
    case pair = 3
    /// `[forecastSteps][forecastOutputs][forecastQuantiles]` numbers.
    case regression = 4
    /// A vector for everything read.
    case embedding = 5
  }

  public let name: String
  public let architecture: String
  /// The kernels in use: "neon", "avx2", "avx512" or "scalar".
  public let kernels: String
  public let input: Input
  public let output: Output
  /// Sessions read it; else only whole sequences do.
  public let isCausal: Bool
  /// It answers from a second sequence, which is read first.
  public let readsMemory: Bool
  public let hasTokenizer: Bool
  public let width: Int
  public let layers: Int
  /// Ids are 0 to `vocabSize` - 1; 0: it reads no tokens.
  public let vocabSize: Int
  /// Numbers of a step; 0: it reads tokens.
  public let features: Int
  public let imageWidth: Int
  public let imageHeight: Int
  /// Numbers in a row of output.
  public let outputs: Int
  /// Names of the classes of a classifier or pair model, else none.
  public let classes: [String]
  /// Of a regression head, else 0: steps told at once, numbers per step, quantiles of each number.
  public let forecastSteps: Int
  public let forecastOutputs: Int
  public let forecastQuantiles: Int
  /// The levels of the quantiles, rising; none when the head tells the mean.
  public let quantiles: [Float]
  /// Threads of the model's own executor.
  public let threads: Int
  /// Left out by a pooling head.
  public let paddingToken: Token?
  public let beginToken: Token?
  public let endToken: Token?
  public let unknownToken: Token?
  /// Numbers in the tensors, shared ones once.
  public let parameters: UInt64
  /// Bytes of the tensors in the file.
  public let weightBytes: UInt64
  /// Bytes of the state of a session, whatever it has read.
  public let stateBytes: UInt64
  /// What each token adds to them: 0, except for softmax attention.
  public let stateBytesPerToken: UInt64
  /// How many tokens a session may read; nil: no limit.
  public let positionLimit: UInt64?
  /// Of the file: sessions are restored into an equal one only.
  public let fingerprint: UInt64

  /// What a text begins with: `beginToken`, else `endToken`.
  public var startToken: Token? { beginToken ?? endToken }

  init(_ model: OpaquePointer) throws {
    var raw = moka_model_info()
    raw.struct_size = UInt32(MemoryLayout<moka_model_info>.size)
    try check { moka_model_get_info(model, &raw, $0) }
    guard let input = Input(rawValue: raw.input), let output = Output(rawValue: raw.output) else {
      throw MokaError(.unsupported, "the library has a kind of model that this package does not know")
    }
    self.input = input
    self.output = output
    name = String(cString: raw.name)
    architecture = String(cString: raw.architecture)
    kernels = String(cString: raw.kernels)
    isCausal = raw.causal != 0
    readsMemory = raw.reads_memory != 0
    hasTokenizer = raw.has_tokenizer != 0
    width = Int(raw.width)
    layers = Int(raw.layers)
    vocabSize = Int(raw.vocab_size)
    features = Int(raw.features)
    imageWidth = Int(raw.image_width)
    imageHeight = Int(raw.image_height)
    outputs = Int(raw.outputs)
    classes = (0..<raw.classes).map { String(cString: moka_model_class_name(model, $0)) }
    forecastSteps = Int(raw.forecast_steps)
    forecastOutputs = Int(raw.forecast_outputs)
    forecastQuantiles = Int(raw.forecast_quantiles)
    quantiles = try output == .regression
      ? numbers(Float(0)) { moka_model_quantiles(model, $0, $1, $2, $3) } : []
    threads = Int(raw.threads)
    paddingToken = raw.padding < 0 ? nil : raw.padding
    beginToken = raw.begin_token < 0 ? nil : raw.begin_token
    endToken = raw.end_token < 0 ? nil : raw.end_token
    unknownToken = raw.unknown_token < 0 ? nil : raw.unknown_token
    parameters = raw.parameters
    weightBytes = raw.weight_bytes
    stateBytes = raw.state_bytes
    stateBytesPerToken = raw.state_bytes_per_token
    positionLimit = raw.position_limit == 0 ? nil : raw.position_limit
    fingerprint = raw.fingerprint
  }
}

/// The state behind a text that a model's file ships, so that sessions and chats begin there without
/// reading. `moka snapshot add` makes them.
public struct PrefixSnapshot: Sendable, Hashable {
  public let name: String
  /// What was read.
  public let text: String
  /// How many tokens that were.
  public let position: UInt64
  /// Bytes of its state in the file.
  public let bytes: UInt64
  /// False: it was made with other weights, or does not say which tokens were read.
  public let isUsable: Bool
}
