import CMoka

/// What stands around the text of a turn of each role. Special tokens in these are themselves, those in a
/// text that is given are plain text.
public struct ChatTemplate: Sendable, Hashable {
  /// A saved chat is opened with an equal one only.
  public var id = ""
  public var systemPrefix = ""
  public var systemSuffix = ""
  public var userPrefix = ""
  public var userSuffix = ""
  public var modelPrefix = ""
  public var modelSuffix = ""

  public init() {}

  var strings: [(name: String, text: String)] {
    [
      ("id", id), ("systemPrefix", systemPrefix), ("systemSuffix", systemSuffix),
      ("userPrefix", userPrefix), ("userSuffix", userSuffix), ("modelPrefix", modelPrefix),
      ("modelSuffix", modelSuffix),
    ]
  }
}

/// Tokens that a chat reads.
public struct ReadProgress: Sendable, Hashable {
  public let done: UInt64
  public let total: UInt64
  /// They were read before, and their state was let go.
  public let again: Bool
}

/// How a chat begins, or goes on.
public struct ChatOptions: Sendable {
  public var template = ChatTemplate()
  /// nil: what the model recommends, with a new seed. A saved chat brings its own.
  public var sampling: Sampling?
  /// A prefix snapshot of the model, behind which the chat begins. A saved chat names its own.
  public var from: String?
  /// Of memory, for states at the ends of turns; nil: 64 MiB. Going to a turn whose state was let go
  /// reads again what follows its nearest kept ancestor.
  public var stateBudgetBytes: UInt64?
  /// States that a file has beside the current one; nil: 2.
  public var savedStates: Int?
  /// nil: the model's own.
  public var executor: ModelExecutor?
  /// Told of reading, for as long as the chat lives.
  public var progress: (@Sendable (ReadProgress) -> Void)?

  public init() {}

  func native<Value>(
    _ model: Model, _ teller: Teller?, _ body: (UnsafePointer<moka_chat_options>) throws -> Value
  ) throws -> Value {
    var raw = moka_chat_options()
    moka_chat_options_init(&raw, UInt32(MemoryLayout<moka_chat_options>.size))
    if let stateBudgetBytes { raw.state_budget_bytes = stateBudgetBytes }
    if let savedStates { raw.saved_states = try checked("savedStates", savedStates) }
    raw.executor = executor.map { $0.handle.pointer }
    if let teller {
      raw.progress = hearReading
      raw.progress_user = Unmanaged.passUnretained(teller).toOpaque()
    }
    var strings: [String?] = try template.strings.map {
      $0.text.isEmpty ? nil : try noNul("template.\($0.name)", $0.text)
    }
    strings.append(try from.map { try noNul("from", $0) })
    return try withCStrings(strings) { strings in
      raw.template_id = strings[0]
      raw.system_prefix = strings[1]
      raw.system_suffix = strings[2]
      raw.user_prefix = strings[3]
      raw.user_suffix = strings[4]
      raw.model_prefix = strings[5]
      raw.model_suffix = strings[6]
      raw.from = strings[7]
      return try (sampling ?? Sampling()).seeded().native(model) {
        raw.sampling = $0
        return try body(&raw)
      }
    }
  }
}

/// Whom a chat tells of reading.
final class Teller: Sendable {
  fileprivate let tell: @Sendable (ReadProgress) -> Void
  init(_ tell: @escaping @Sendable (ReadProgress) -> Void) { self.tell = tell }
}

private func hearReading(_ user: UnsafeMutableRawPointer?, _ done: UInt64, _ total: UInt64,
  _ again: Int32) -> Int32
{
  guard let user else { return 0 }
  Unmanaged<Teller>.fromOpaque(user).takeUnretainedValue().tell(
    ReadProgress(done: done, total: total, again: again != 0))
  return 0
}

/// Who has a turn.
public enum Role: Int32, Sendable, Hashable, CaseIterable {
  case system = 0
  case user = 1
  case model = 2
}

/// From 1, rising; none is used twice. 0 is the start of the chat, the parent of first turns.
public typealias TurnID = UInt64

/// A turn of a chat.
public struct Turn: Sendable, Hashable, Identifiable {
  public let id: TurnID
  public let parent: TurnID
  public let role: Role
  /// As it was given, or what the model wrote.
  public let text: String
  /// Why the model's writing ended; nil of a text that was given.
  public let end: ReplyEnd?
  /// Going to it has nothing to read again.
  public let isKept: Bool
  /// Tokens from the start of the chat to the end of this turn.
  public let position: UInt64
  /// All that were read: `templateHead`, those of the text, `templateTail`.
  public let tokens: [Token]
  public let templateHead: Int
  public let templateTail: Int

  init(_ raw: moka_turn) {
    id = raw.id
    parent = raw.parent
    role = Role(rawValue: raw.role) ?? .user
    text = utf8Text(at: raw.text, raw.text_size)
    end = ReplyEnd(rawValue: raw.end)
    isKept = raw.kept != 0
    position = raw.position
    tokens = Array(UnsafeBufferPointer(start: raw.tokens, count: raw.token_count))
    templateHead = Int(raw.template_head)
    templateTail = Int(raw.template_tail)
  }
}
