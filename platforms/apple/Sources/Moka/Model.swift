import CMoka
import Dispatch
import Foundation

/// How a model is opened.
public struct OpenOptions: Sendable {
  /// Threads of the model's own executor, 1 to 256; 0: one per fast core, at most 4.
  public var threads = 0
  /// Tokens of a prompt read at once, 1 to 1024; nil: 128.
  public var chunk: Int?
  /// Read the whole file and compare it with its checksums first. Else its header alone is checked,
  /// which takes no time.
  public var checksData = false
  /// "neon", "avx2", "avx512" or "scalar"; nil: the best of this CPU.
  public var kernels: String?
  /// What a file that nobody vouches for may ask; nil: what the format allows. `outOfRange` names the
  /// limit, before anything of that size is read or allocated.
  public var maxHeaderBytes: UInt64?
  public var maxTensors: UInt64?
  public var maxVocabSize: UInt64?
  /// Packed weights, the state of one session and working memory, but no mapped pages.
  public var maxMemoryBytes: UInt64?

  public init() {}

  func native<Value>(
    _ watch: Watch, _ body: (UnsafePointer<moka_open_options>) throws -> Value
  ) throws -> Value {
    var raw = moka_open_options()
    moka_open_options_init(&raw, UInt32(MemoryLayout<moka_open_options>.size))
    raw.threads = try checked("threads", threads)
    if let chunk { raw.chunk = try checked("chunk", chunk) }
    raw.check_data = checksData ? 1 : 0
    raw.limit_header_bytes = maxHeaderBytes ?? 0
    raw.limit_tensors = maxTensors ?? 0
    raw.limit_vocab_size = maxVocabSize ?? 0
    raw.limit_memory_bytes = maxMemoryBytes ?? 0
    raw.progress = hearProgress
    raw.progress_user = watch.pointer
    return try withCStrings([try kernels.map { try noNul("kernels", $0) }]) { strings in
      raw.kernels = strings[0]
      return try body(&raw)
    }
  }
}

/// A model's file, opened: its weights are mapped, and shared by all that is made from it.
///
/// Any thread may use it; nothing of it changes.
public final class Model: Sendable {
  public let info: ModelInfo
  /// Runs what names no other.
  public let executor: ModelExecutor
  let handle: Handle

  init(_ handle: Handle) throws {
    self.handle = handle
    info = try ModelInfo(handle.pointer)
    executor = try ModelExecutor(
      Handle(moka_executor_free) { moka_executor_of_model(handle.pointer, $0, $1) })
  }

  /// Maps the file at `path`, checks it and packs its weights. The file may be renamed or deleted
  /// meanwhile, but must not be overwritten in place.
  ///
  /// `progress` is told the share that is done, 0 to 1, of `checksData`. Throws `notFound`, `io`,
  /// `corrupt`, `version`, `unsupported`, `outOfRange` (above a limit); `CancellationError`.
  public static func open(
    path: String, options: OpenOptions = OpenOptions(),
    progress: (@Sendable (Double) -> Void)? = nil
  ) async throws -> Model {
    let path = try noNul("path", path)
    return try await open(options, progress) { moka_model_open(path, $0, $1, $2) }
  }

  /// The same of a file's URL, such as one of the app's bundle.
  public static func open(
    _ url: URL, options: OpenOptions = OpenOptions(),
    progress: (@Sendable (Double) -> Void)? = nil
  ) async throws -> Model {
    try await open(path: filePath(url), options: options, progress: progress)
  }

  /// From `length` bytes at `offset` of an open file, or all of its rest with length 0. The descriptor
  /// may be closed afterwards; it is neither closed nor moved. The model is mapped if `offset` is a
  /// multiple of 64, else read into memory.
  public static func open(
    descriptor: Int32, offset: UInt64 = 0, length: UInt64 = 0, options: OpenOptions = OpenOptions(),
    progress: (@Sendable (Double) -> Void)? = nil
  ) async throws -> Model {
    try await open(options, progress) {
      moka_model_open_fd(descriptor, offset, length, $0, $1, $2)
    }
  }

  private static func open(
    _ options: OpenOptions, _ progress: (@Sendable (Double) -> Void)?,
    _ call: @escaping @Sendable (
      UnsafePointer<moka_open_options>, UnsafeMutablePointer<OpaquePointer?>,
      UnsafeMutablePointer<moka_error>
    ) -> moka_status
  ) async throws -> Model {
    let watch = Watch(progress)
    return try await onQueue(DispatchQueue.global(qos: .userInitiated), watch) {
      try options.native(watch) { raw in
        try Model(Handle(moka_model_free) { call(raw, $0, $1) })
      }
    }
  }

  /// The ids of a text. Special tokens in it, such as `<|endoftext|>`, become their ids with
  /// `parsingSpecial`; else they are plain text, as they should be in what a stranger wrote. No token is
  /// put before or behind them. Throws `unsupported` for a model without a tokenizer.
  public func tokens(of text: String, parsingSpecial: Bool = false) throws -> [Token] {
    var text = text
    return try text.withUTF8 { utf8 in
      try utf8.withMemoryRebound(to: CChar.self) { chars in
        try numbers(Token(0)) { buffer, capacity, needed, error in
          moka_model_tokenize(handle.pointer, chars.baseAddress, chars.count, parsingSpecial ? 1 : 0,
            buffer, capacity, needed, error)
        }
      }
    }
  }

  /// The text of ids; control tokens have none. What is no whole character becomes U+FFFD.
  public func text(of tokens: [Token]) throws -> String {
    let chars = try numbers(CChar(0)) {
      moka_model_detokenize(handle.pointer, tokens, tokens.count, $0, $1, $2, $3)
    }
    return String(decoding: chars.lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Those that the file has.
  public var snapshots: [PrefixSnapshot] {
    get throws {
      try (0..<moka_model_snapshot_count(handle.pointer)).map { index in
        var raw = moka_snapshot()
        raw.struct_size = UInt32(MemoryLayout<moka_snapshot>.size)
        try check { moka_model_snapshot_at(handle.pointer, index, &raw, $0) }
        return PrefixSnapshot(
          name: String(cString: raw.name), text: utf8Text(at: raw.text, raw.text_size),
          position: raw.position, bytes: raw.bytes, isUsable: raw.usable != 0)
      }
    }
  }
}

/// Threads and working memory that run a model.
///
/// Calls on one executor wait for each other; make more to run side by side. Weights are shared, and
/// threads change no bit of what comes out.
public final class ModelExecutor: Sendable {
  public let threads: Int
  let handle: Handle
  /// Of whole sequences, which would wait for each other in any case.
  let queue: DispatchQueue

  /// `threads`, 1 to 256; 0: one per fast core, at most 4. `chunk`: tokens of a prompt read at once, 1
  /// to 1024; nil: 128.
  public convenience init(_ model: Model, threads: Int = 0, chunk: Int? = nil) throws {
    var raw = moka_executor_options()
    moka_executor_options_init(&raw, UInt32(MemoryLayout<moka_executor_options>.size))
    raw.threads = try checked("threads", threads)
    if let chunk { raw.chunk = try checked("chunk", chunk) }
    try self.init(
      Handle(moka_executor_free) { moka_executor_create(model.handle.pointer, &raw, $0, $1) })
  }

  init(_ handle: Handle) throws {
    self.handle = handle
    threads = Int(moka_executor_threads(handle.pointer))
    queue = DispatchQueue(label: "moka.executor", qos: .userInitiated)
  }
}
