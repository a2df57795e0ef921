import CMoka
import Foundation

/// What a reply of a session came to.
public struct ReplyResult: Sendable, Hashable {
  /// Why it ended; nil: it was cancelled.
  public let end: ReplyEnd?
  /// How many tokens were written and read.
  public let tokens: UInt64
  /// What the draws began from: with it the same text is written again.
  public let seed: UInt64
  /// Guesses that were tried, and how many of them came true (`ReplyOptions.lookup`).
  public let guessed: UInt64
  public let accepted: UInt64
}

/// One sequence that a model reads and writes, in a state of constant size.
///
/// Calls are served one after the other, on a queue of the session's own. One that fails or is
/// cancelled leaves the session as it was, except that a reply keeps the tokens that were read. The
/// cancellation of a task ends its call at the next token, or chunk of a prompt, with
/// `CancellationError`.
///
/// Besides what the calls say, they throw `MokaError`: `failedPrecondition` after `close()`,
/// `outOfRange` for a token outside the vocabulary or beyond `ModelInfo.positionLimit`,
/// `invalidArgument` for what the model does not read, and `outOfMemory`.
public actor Session {
  public nonisolated let model: Model
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    queue.asUnownedSerialExecutor()
  }

  private nonisolated let queue = QueueExecutor("moka.session")
  private nonisolated let current = Locked<Call?>(nil)
  private var handle: Handle?

  /// What the last reply came to; nil before, and when it failed.
  public private(set) var lastReply: ReplyResult?

  /// A session that has read nothing. `executor`: nil for the model's own. `failedPrecondition`: a model
  /// that sees ahead, or compares two sequences, has no sessions.
  public init(_ model: Model, executor: ModelExecutor? = nil) throws {
    self.model = model
    let other = executor?.handle
    handle = try Handle(moka_session_free) {
      moka_session_create(model.handle.pointer, other?.pointer, $0, $1)
    }
  }

  private init(_ model: Model, _ handle: Handle) {
    self.model = model
    self.handle = handle
  }

  // MARK: reading

  /// Reads on. Where nothing was read yet, a language model reads `ModelInfo.startToken` before a text;
  /// ids are read as they are.
  public func append(_ input: Input) async throws {
    let steps = try steps(of: input)
    try await cancellable { steps.append(to: $0, $1) }
  }

  /// Reads the sequence that the model answers from, if `ModelInfo.readsMemory`; before all else.
  public func append(memory: Input) async throws {
    let steps = try Steps(memory, of: model)
    try await cancellable { session, error in
      steps.native { moka_session_append_memory(session, $0, error) }
    }
  }

  /// The output for everything read so far, `info.outputs` numbers; none where nothing was read.
  public var logits: [Float] {
    get throws {
      let handle = try opened()
      var row: UnsafePointer<Float>?
      var count = 0
      try check { moka_session_logits(handle.pointer, &row, &count, $0) }
      return Array(UnsafeBufferPointer(start: row, count: count))
    }
  }

  /// How many tokens or steps were read.
  public var position: UInt64 {
    get throws { moka_session_position(try opened().pointer) }
  }

  /// How many of the second sequence were read.
  public var memoryPosition: UInt64 {
    get throws { moka_session_memory_position(try opened().pointer) }
  }

  // MARK: writing

  /// Reads `prompt`, if there is one, as `append` does, and lets the model write.
  ///
  /// The writing begins at once and does not wait for who reads the stream, whose texts are of whole
  /// Unicode scalars. To leave the loop, or the cancellation of the task around it, stops it within a
  /// token, and the session stands behind the last token that was read. `lastReply` then has the rest.
  ///
  /// The stream throws `unsupported` for what is no language model with a tokenizer,
  /// `failedPrecondition` where nothing was read and there is no prompt, `cancelled` after `cancel()`.
  public nonisolated func reply(_ prompt: Input? = nil, options: ReplyOptions = ReplyOptions())
    -> AsyncThrowingStream<String, any Error>
  {
    Writer.stream(keepsText: false) { try await self.write(prompt, options, $0) }
  }

  private func write(_ prompt: Input?, _ options: ReplyOptions, _ writer: Writer) throws {
    lastReply = nil
    let handle = try opened()
    let prompt = try prompt.map { try steps(of: $0) }
    let sampling = (options.sampling ?? Sampling()).seeded()
    let sampler = try sampling.native(model) { raw in
      try Handle(moka_sampler_free) { moka_sampler_create(model.handle.pointer, raw, $0, $1) }
    }
    var result = moka_generate_result()
    result.struct_size = UInt32(MemoryLayout<moka_generate_result>.size)
    defer {
      let end = ReplyEnd(rawValue: result.end)
      if end != nil || writer.call.isCancelled {
        lastReply = ReplyResult(
          end: end, tokens: result.tokens, seed: sampling.seed ?? 0, guessed: result.drafted,
          accepted: result.accepted)
      }
    }
    try options.native(prompt?.tokens ?? [], writer) { raw in
      try run(writer.call, handle) { error in
        if let prompt {
          // Of a reply that cannot begin the prompt is not read.
          let fine = moka_session_check_generate(handle.pointer, raw, error)
          guard fine == succeeded else { return fine }
          let read = prompt.append(to: handle.pointer, error)
          guard read == succeeded else { return read }
          let heard = moka_sampler_accept(
            sampler.pointer, prompt.tokens, prompt.tokens.count, error)
          guard heard == succeeded else { return heard }
        }
        return moka_session_generate(handle.pointer, sampler.pointer, raw, &result, error)
      }
    }
  }

  /// Ends the call that runs, if one does, with `MokaError.Code.cancelled`.
  public nonisolated func cancel() { current.with { $0 }?.cancel() }

  // MARK: places

  /// An independent copy on the same executor; it costs a copy of the state.
  public func fork() throws -> Session {
    let handle = try opened()
    return Session(
      model, try Handle(moka_session_free) { moka_session_fork(handle.pointer, $0, $1) })
  }

  /// Goes to where nothing was read.
  public func reset() throws { moka_session_reset(try opened().pointer) }

  /// The session as bytes, which are the same on every platform.
  public func save() throws -> Data {
    let handle = try opened()
    let info = model.info
    let tokens = info.stateBytesPerToken == 0 ? 0 : moka_session_position(handle.pointer)
    let guess = info.stateBytes + info.stateBytesPerToken * tokens + UInt64(info.outputs) * 4
    return try bytes(guess: Int(clamping: guess) + (64 << 10)) {
      moka_session_save(handle.pointer, $0, $1, $2, $3)
    }
  }

  /// What `save` gave; all that follows has the same bits as if it had never ended. Throws `corrupt`;
  /// `failedPrecondition`: of another model.
  public func restore(_ saved: Data) throws {
    let handle = try opened()
    try saved.withUnsafeBytes { bytes in
      try check { moka_session_restore(handle.pointer, bytes.baseAddress, bytes.count, $0) }
    }
  }

  /// The same in a file, which is written under another name, synced and renamed.
  public func save(to url: URL) throws {
    let handle = try opened()
    let path = try filePath(url)
    try check { moka_session_save_file(handle.pointer, path, $0) }
  }

  /// Throws `notFound` and `io` too.
  public func restore(from url: URL) throws {
    let handle = try opened()
    let path = try filePath(url)
    try check { moka_session_restore_file(handle.pointer, path, $0) }
  }

  /// Becomes a session that has read the prefix of one of `Model.snapshots`. Throws `notFound`, which
  /// names those that there are; `failedPrecondition`: it was made with other weights; `corrupt`.
  public func restore(snapshot name: String) throws {
    let handle = try opened()
    let name = try noNul("snapshot", name)
    try check { moka_session_restore_snapshot(handle.pointer, name, $0) }
  }

  /// Ends the call that runs and frees the state. Not needed: so does letting go of the session.
  public nonisolated func close() async {
    cancel()
    await drop()
  }

  // MARK: inside

  private func drop() { handle = nil }

  private func opened() throws -> Handle {
    guard let handle else { throw MokaError.closed("session") }
    return handle
  }

  private func steps(of input: Input) throws -> Steps {
    var steps = try Steps(input, of: model)
    if case .text = input, model.info.output == .language, let start = model.info.startToken,
      try position == 0
    {
      steps.tokens.insert(start, at: 0)
    }
    return steps
  }

  private func run(_ call: Call, _ handle: Handle, _ body: NativeCall) throws {
    current.with { $0 = call }
    defer { current.with { $0 = nil } }
    let model = model
    let native = NativeCancel(
      cancel: { moka_session_cancel(handle.pointer) },
      absorb: { Session.absorb(handle, model.info) })
    try call.run(native, body)
  }

  private func cancellable(
    _ body: (OpaquePointer, UnsafeMutablePointer<moka_error>) -> moka_status
  ) async throws {
    let handle = try opened()
    let call = Call()
    do {
      try await withTaskCancellationHandler {
        try run(call, handle) { body(handle.pointer, $0) }
      } onCancel: {
        call.cancel()
      }
    } catch {
      throw asTaskError(error)
    }
  }

  /// Reads a step that is undone.
  private static func absorb(_ handle: Handle, _ info: ModelInfo) {
    var steps = Steps()
    if info.input == .tokens {
      steps.tokens = [0]
    } else {
      steps.values = [Float](repeating: 0, count: max(1, info.features))
    }
    steps.native { raw in
      _ = moka_session_append_rows(handle.pointer, raw, { _, _, _, _, _ in 1 }, nil, nil)
    }
  }
}
