import CMoka
import Dispatch
import Foundation

/// A conversation, or a text written in turns. Turns form a tree: what is undone, edited or written anew
/// stays in it until it is removed. One turn is the current one; `append` and `reply` put the next one
/// behind it.
///
/// Calls are served one after the other, on a queue of the chat's own, and each is a transaction: one
/// that fails or is cancelled leaves the chat as it was. The cancellation of a task ends its call with
/// `CancellationError`. A turn whose stream nobody reads any more is kept with what it has, if it has
/// anything.
///
/// Besides what the calls say, they throw `MokaError`: `failedPrecondition` after `close()`, `outOfRange`
/// beyond `ModelInfo.positionLimit`, `notFound` for a turn that is not there, and `outOfMemory`.
public actor Chat {
  public nonisolated let model: Model
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    queue.asUnownedSerialExecutor()
  }

  private nonisolated let queue = QueueExecutor("moka.chat")
  private nonisolated let current = Locked<Call?>(nil)
  private var handle: Handle?

  /// A new chat. Throws `unsupported`: no causal language model with a tokenizer; `invalidArgument` for an
  /// option out of range; of `options.from` what `Session.restore(snapshot:)` throws.
  public init(_ model: Model, options: ChatOptions = ChatOptions()) throws {
    self.model = model
    handle = try Chat.make(model, options) {
      moka_chat_create(model.handle.pointer, $0, $1, $2)
    }
  }

  /// A saved chat, which is not trusted: `corrupt`, `version`; `failedPrecondition`: of another model,
  /// template or prefix; `notFound`: the model no longer has its prefix.
  public static func open(_ model: Model, _ saved: Data, options: ChatOptions = ChatOptions())
    async throws -> Chat
  {
    try await open(model, options) { raw, made, error in
      saved.withUnsafeBytes {
        moka_chat_open(model.handle.pointer, $0.baseAddress, $0.count, raw, made, error)
      }
    }
  }

  /// The same from a file.
  public static func open(_ model: Model, from url: URL, options: ChatOptions = ChatOptions())
    async throws -> Chat
  {
    let path = try filePath(url)
    return try await open(model, options) {
      moka_chat_open_file(model.handle.pointer, path, $0, $1, $2)
    }
  }

  private init(_ model: Model, _ handle: Handle) {
    self.model = model
    self.handle = handle
  }

  private typealias Make = (
    UnsafePointer<moka_chat_options>, UnsafeMutablePointer<OpaquePointer?>,
    UnsafeMutablePointer<moka_error>
  ) -> moka_status

  private static func make(_ model: Model, _ options: ChatOptions, _ call: Make) throws -> Handle {
    let teller = options.progress.map { Teller($0) }
    return try options.native(model, teller) { raw in
      try Handle(moka_chat_free, keeping: teller) { call(raw, $0, $1) }
    }
  }

  private static func open(
    _ model: Model, _ options: ChatOptions,
    _ call: @escaping @Sendable (
      UnsafePointer<moka_chat_options>, UnsafeMutablePointer<OpaquePointer?>,
      UnsafeMutablePointer<moka_error>
    ) -> moka_status
  ) async throws -> Chat {
    try await onQueue(DispatchQueue.global(qos: .userInitiated), Watch(nil)) {
      Chat(model, try make(model, options, call))
    }
  }

  // MARK: turns that are given

  /// Puts a turn behind the current one. `invalidArgument`: a text that cannot be encoded, or has no
  /// tokens.
  @discardableResult
  public func append(_ text: String, role: Role = .user) async throws -> TurnID {
    try await step { chat, step, error in
      moka_chat_append(chat, role.rawValue, text, text.utf8.count, step, error)
    }
  }

  /// Puts a turn behind any turn, or behind 0, the start.
  @discardableResult
  public func branch(after turn: TurnID, _ text: String, role: Role = .user) async throws -> TurnID {
    try await step { chat, step, error in
      moka_chat_branch(chat, turn, role.rawValue, text, text.utf8.count, step, error)
    }
  }

  /// Puts a turn beside one, with its role.
  @discardableResult
  public func edit(_ turn: TurnID, _ text: String) async throws -> TurnID {
    try await step { chat, step, error in
      moka_chat_edit(chat, turn, text, text.utf8.count, step, error)
    }
  }

  // MARK: turns that the model writes

  /// Appends the user's text, if there is one, and lets the model write the next turn; see
  /// `Session.reply`. `options.sampling`, when given, holds from this turn on.
  ///
  /// The writing does not wait for who reads the stream: a turn that was stopped may have a little more
  /// text than was read. `cancelled`, after `cancel()`, leaves no turn of the model.
  public nonisolated func reply(_ text: String? = nil, options: ReplyOptions = ReplyOptions())
    -> AsyncThrowingStream<String, any Error>
  {
    Writer.stream(keepsText: true) { try await self.write(text, again: false, options, $0) }
  }

  /// The same beside the current turn, when the model wrote that one.
  public nonisolated func regenerate(options: ReplyOptions = ReplyOptions())
    -> AsyncThrowingStream<String, any Error>
  {
    Writer.stream(keepsText: true) { try await self.write(nil, again: true, options, $0) }
  }

  private func write(_ text: String?, again: Bool, _ options: ReplyOptions, _ writer: Writer) throws {
    let handle = try opened()
    try options.native([], writer) { raw in
      try withSampling(options) { sampling in
        try run(writer.call, handle) { error in
          if let text {
            let user = Role.user.rawValue
            let status = moka_chat_append(handle.pointer, user, text, text.utf8.count, nil, error)
            guard status == succeeded else { return status }
          }
          return again
            ? moka_chat_regenerate(handle.pointer, raw, sampling, nil, error)
            : moka_chat_generate(handle.pointer, raw, sampling, nil, error)
        }
      }
    }
  }

  private func withSampling(
    _ options: ReplyOptions, _ body: (UnsafePointer<moka_sampler_options>?) throws -> Void
  ) throws {
    guard let sampling = options.sampling else { return try body(nil) }
    try sampling.seeded().native(model) { try body($0) }
  }

  /// Ends the call that runs, if one does, with `MokaError.Code.cancelled`, the chat as it was before.
  public nonisolated func cancel() { current.with { $0 }?.cancel() }

  // MARK: other turns

  /// Goes to the parent of the current turn. `failedPrecondition` at the start.
  @discardableResult
  public func undo() async throws -> TurnID {
    try await step { moka_chat_undo($0, $1, $2) }
  }

  /// Goes to any turn, or to 0, the start.
  public func go(to turn: TurnID) async throws {
    try await step { moka_chat_switch_to($0, turn, $1, $2) }
  }

  /// Removes a turn and all that follow it. `failedPrecondition` when the current one is of them.
  public func remove(_ turn: TurnID) throws {
    let handle = try opened()
    try check { moka_chat_remove(handle.pointer, turn, $0) }
  }

  /// The id of the current turn; 0 at the start.
  public var currentTurn: TurnID {
    get throws { moka_chat_current(try opened().pointer) }
  }

  /// All of the tree, ids rising.
  public var turns: [Turn] {
    get throws {
      let handle = try opened()
      return try (0..<moka_chat_turn_count(handle.pointer)).map { place in
        try found { moka_chat_turn_at(handle.pointer, place, $0, $1) }
      }
    }
  }

  /// One of them.
  public func turn(_ id: TurnID) throws -> Turn {
    let handle = try opened()
    return try found { moka_chat_find_turn(handle.pointer, id, $0, $1) }
  }

  /// From the first turn to the current one.
  public var path: [Turn] {
    get throws {
      let handle = try opened()
      return try numbers(TurnID(0)) { moka_chat_path(handle.pointer, $0, $1, $2, $3) }.map { try turn($0) }
    }
  }

  /// The output at the end of the current turn, `info.outputs` numbers; none at the start.
  public var logits: [Float] {
    get throws {
      let handle = try opened()
      var row: UnsafePointer<Float>?
      var count = 0
      try check { moka_chat_logits(handle.pointer, &row, &count, $0) }
      return Array(UnsafeBufferPointer(start: row, count: count))
    }
  }

  /// The prefix snapshot that it began from.
  public var from: String? {
    get throws {
      let name = String(cString: moka_chat_from(try opened().pointer))
      return name.isEmpty ? nil : name
    }
  }

  public var keptStateBytes: UInt64 {
    get throws { moka_chat_kept_state_bytes(try opened().pointer) }
  }

  // MARK: files

  /// All turns, and the states of some: see `ChatOptions.savedStates`.
  public func save() throws -> Data {
    let handle = try opened()
    let guess = 3 * model.info.stateBytes + UInt64(model.info.outputs) * 12
    return try bytes(guess: Int(clamping: guess) + (256 << 10)) {
      moka_chat_save(handle.pointer, $0, $1, $2, $3)
    }
  }

  /// The same in a file, which is written under another name, synced and renamed.
  public func save(to url: URL) throws {
    let handle = try opened()
    let path = try filePath(url)
    try check { moka_chat_save_file(handle.pointer, path, $0) }
  }

  /// Ends the call that runs and frees the states. Not needed: so does letting go of the chat.
  public nonisolated func close() async {
    cancel()
    await drop()
  }

  // MARK: inside

  private func drop() { handle = nil }

  private func opened() throws -> Handle {
    guard let handle else { throw MokaError.closed("chat") }
    return handle
  }

  private func run(_ call: Call, _ handle: Handle, _ body: NativeCall) throws {
    current.with { $0 = call }
    defer { current.with { $0 = nil } }
    let native = NativeCancel(
      cancel: { moka_chat_cancel(handle.pointer) },
      absorb: {  // by going to where it is
        _ = moka_chat_switch_to(handle.pointer, moka_chat_current(handle.pointer), nil, nil)
      })
    try call.run(native, body)
  }

  @discardableResult
  private func step(
    _ body: (OpaquePointer, UnsafeMutablePointer<moka_chat_step>, UnsafeMutablePointer<moka_error>)
      -> moka_status
  ) async throws -> TurnID {
    let handle = try opened()
    let call = Call()
    var step = moka_chat_step()
    step.struct_size = UInt32(MemoryLayout<moka_chat_step>.size)
    do {
      try await withTaskCancellationHandler {
        try run(call, handle) { body(handle.pointer, &step, $0) }
      } onCancel: {
        call.cancel()
      }
    } catch {
      throw asTaskError(error)
    }
    return step.turn
  }

  private func found(
    _ call: (UnsafeMutablePointer<moka_turn>, UnsafeMutablePointer<moka_error>) -> moka_status
  ) throws -> Turn {
    var raw = moka_turn()
    raw.struct_size = UInt32(MemoryLayout<moka_turn>.size)
    try check { call(&raw, $0) }
    return Turn(raw)
  }
}
