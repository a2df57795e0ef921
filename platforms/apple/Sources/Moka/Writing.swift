import CMoka
import Foundation

/// How tokens are drawn; nil: what the author of the model recommends. Equal scores, options and seed
/// draw equal tokens on every platform.
public struct Sampling: Sendable, Hashable {
  /// 0: always the likeliest token.
  public var temperature: Float?
  /// Draw from the k likeliest; 0: from all.
  public var topK: Int?
  /// Draw from the fewest that have this probability together; 1: from all.
  public var topP: Float?
  /// Draw from those at least this many times as likely as the likeliest.
  public var minP: Float?
  /// Above 1 it makes the last `repeatWindow` tokens less likely.
  public var repeatPenalty: Float?
  public var repeatWindow: Int?
  /// nil: another one each time.
  public var seed: UInt64?
  /// What is added to the score of a token; `-.infinity` bans it.
  public var bias: [Token: Float]

  public init(
    temperature: Float? = nil, topK: Int? = nil, topP: Float? = nil, minP: Float? = nil,
    repeatPenalty: Float? = nil, repeatWindow: Int? = nil, seed: UInt64? = nil,
    bias: [Token: Float] = [:]
  ) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.minP = minP
    self.repeatPenalty = repeatPenalty
    self.repeatWindow = repeatWindow
    self.seed = seed
    self.bias = bias
  }

  /// With a seed that was drawn, if there was none.
  func seeded() -> Sampling {
    var copy = self
    copy.seed = seed ?? UInt64.random(in: 0...UInt64.max)
    return copy
  }

  func native<Value>(
    _ model: Model, _ body: (UnsafePointer<moka_sampler_options>) throws -> Value
  ) throws -> Value {
    var raw = moka_sampler_options()
    moka_sampler_options_init(
      &raw, UInt32(MemoryLayout<moka_sampler_options>.size), model.handle.pointer)
    if let temperature { raw.temperature = temperature }
    if let topK { raw.top_k = try checked("topK", topK) }
    if let topP { raw.top_p = topP }
    if let minP { raw.min_p = minP }
    if let repeatPenalty { raw.repeat_penalty = repeatPenalty }
    if let repeatWindow { raw.repeat_window = try checked("repeatWindow", repeatWindow) }
    if let seed { raw.seed = seed }
    let biases = bias.sorted { $0.key < $1.key }.map { moka_logit_bias(token: $0.key, bias: $0.value) }
    return try biases.withUnsafeBufferPointer { biases in
      if !biases.isEmpty {
        raw.bias = biases.baseAddress
        raw.bias_count = try checked("bias.count", biases.count)
      }
      return try body(&raw)
    }
  }
}

/// How long a model writes, and with which draws.
public struct ReplyOptions: Sendable, Hashable {
  /// At least 1.
  public var maxTokens: Int
  /// Of writing; nil: no limit.
  public var maxTime: Duration?
  /// Texts that end it and are not given out; at most 64.
  public var stop: [String]
  /// Tokens that end it and are not read.
  public var stopTokens: [Token]
  /// The model's own tokens that begin and end texts end it.
  public var stopsAtEnd: Bool
  /// So many tokens at the end that are one cycle, again and again, end it; 0: never.
  public var loopTokens: Int
  /// Guesses of what comes next that go through the model in one pass with a token, at most 16; 0:
  /// none. What is written is the same; a text that repeats itself, or its prompt, comes faster.
  public var lookup: Int
  /// nil: in a session what the model recommends, with a new seed; in a chat what held before, and its
  /// generator goes on.
  public var sampling: Sampling?

  public init(
    maxTokens: Int = 512, maxTime: Duration? = nil, stop: [String] = [], stopTokens: [Token] = [],
    stopsAtEnd: Bool = true, loopTokens: Int = 256, lookup: Int = 0, sampling: Sampling? = nil
  ) {
    self.maxTokens = maxTokens
    self.maxTime = maxTime
    self.stop = stop
    self.stopTokens = stopTokens
    self.stopsAtEnd = stopsAtEnd
    self.loopTokens = loopTokens
    self.lookup = lookup
    self.sampling = sampling
  }

  /// `before` is what was read, for `lookup`; the text goes to `writer`.
  func native<Value>(
    _ before: [Token], _ writer: Writer,
    _ body: (UnsafePointer<moka_generate_options>) throws -> Value
  ) throws -> Value {
    var raw = moka_generate_options()
    moka_generate_options_init(&raw, UInt32(MemoryLayout<moka_generate_options>.size))
    raw.max_tokens = try checked("maxTokens", maxTokens)
    raw.max_ms = try maxTime.map(milliseconds) ?? 0
    raw.stop_at_end = stopsAtEnd ? 1 : 0
    raw.loop_tokens = try checked("loopTokens", loopTokens)
    raw.lookup = try checked("lookup", lookup)
    raw.stop_token_count = try checked("stopTokens.count", stopTokens.count)
    raw.stop_text_count = try checked("stop.count", stop.count)
    raw.on_text = hearText
    raw.user = Unmanaged.passUnretained(writer).toOpaque()
    return try withCStrings(stop.map { try noNul("stop", $0) }) { texts in
      try texts.withUnsafeBufferPointer { texts in
        try stopTokens.withUnsafeBufferPointer { stops in
          try before.withUnsafeBufferPointer { before in
            raw.stop_texts = texts.baseAddress
            raw.stop_tokens = stops.baseAddress
            if lookup > 0 {
              raw.lookup_tokens = before.baseAddress
              raw.lookup_token_count = before.count
            }
            return try withExtendedLifetime(writer) { try body(&raw) }
          }
        }
      }
    }
  }
}

/// Rounded up: 0 would be no limit.
private func milliseconds(_ time: Duration) throws -> UInt64 {
  let (seconds, attoseconds) = time.components
  guard time > .zero, seconds < 1 << 50 else {
    throw MokaError(.invalidArgument, "maxTime is \(time), must be above 0")
  }
  return UInt64(seconds) * 1000 + UInt64(attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
}

/// Why writing ended.
public enum ReplyEnd: Int32, Sendable, Hashable {
  /// `stopTokens`, or `stopsAtEnd`.
  case stopToken = 1
  /// `stop`: neither it nor what follows was given out.
  case stopText = 2
  /// `maxTokens`.
  case tokens = 3
  /// `maxTime`.
  case time = 4
  /// Nobody read on.
  case stopped = 5
  /// The model reads no more: `ModelInfo.positionLimit`.
  case position = 6
  /// `loopTokens`.
  case loop = 7
}

/// Where the text of a reply goes.
final class Writer: Sendable {
  typealias Stream = AsyncThrowingStream<String, any Error>

  let call: Call
  private let continuation: Stream.Continuation

  init(_ call: Call, _ continuation: Stream.Continuation) {
    self.call = call
    self.continuation = continuation
  }

  /// Whether the writing goes on.
  func write(_ text: String) -> Bool {
    guard call.goesOn() else { return false }
    continuation.yield(text)
    return true
  }

  /// What `work` writes. A stream that nobody reads any more, because its task was cancelled or the loop
  /// left, stops the call.
  static func stream(
    keepsText: Bool, _ work: @escaping @Sendable (Writer) async throws -> Void
  ) -> Stream {
    Stream { continuation in
      let call = Call(keepsText: keepsText)
      continuation.onTermination = { reason in
        if case .cancelled = reason { call.stop() }
      }
      let writer = Writer(call, continuation)
      Task {
        do {
          try await work(writer)
          continuation.finish()
        } catch {
          continuation.finish(throwing: error)
        }
      }
    }
  }
}

/// The moka_text_fn of a `Writer`.
private func hearText(_ user: UnsafeMutableRawPointer?, _ start: UnsafePointer<CChar>?, _ size: Int)
  -> Int32
{
  guard let user else { return 1 }
  let writer = Unmanaged<Writer>.fromOpaque(user).takeUnretainedValue()
  return writer.write(utf8Text(at: start, size)) ? 0 : 1
}
