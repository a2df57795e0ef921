import CMoka
import Foundation

/// Why a call failed. Branch on `code`, never on the words of `message`.
public struct MokaError: LocalizedError, Hashable, Sendable, CustomStringConvertible {
  /// The codes of `moka_status`.
  public enum Code: Int32, Sendable, Hashable, CaseIterable {
    /// Something was passed that can never work.
    case invalidArgument = 1
    /// No such file, turn or snapshot.
    case notFound = 2
    /// The operating system failed to read or write.
    case io = 3
    /// The bytes are not what they claim to be.
    case corrupt = 4
    /// A format version that this library does not know.
    case version = 5
    /// Valid, but not for this build or this model.
    case unsupported = 6
    case outOfMemory = 7
    /// An index, position or size beyond its bound.
    case outOfRange = 8
    /// The right call at the wrong moment; also the use of what was closed.
    case failedPrecondition = 9
    /// By `cancel()`. The cancellation of a task is a `CancellationError` instead.
    case cancelled = 10
    /// A defect of Moka.
    case internalError = 11
  }

  public let code: Code
  /// For people: what was wrong, and what would be right.
  public let message: String

  init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  init(_ error: moka_error) {
    code = Code(rawValue: error.code) ?? .internalError
    message = withUnsafeBytes(of: error.message) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  public var errorDescription: String? { message }
  public var description: String { "\(code): \(message)" }

  static func closed(_ what: String) -> MokaError {
    MokaError(.failedPrecondition, "the \(what) is closed")
  }
}

let succeeded = moka_status(MOKA_OK)
let wasCancelled = moka_status(MOKA_CANCELLED)

/// A call of the C interface: it gets the place for its error and gives a status.
typealias NativeCall = (UnsafeMutablePointer<moka_error>) -> moka_status

func check(_ call: NativeCall) throws {
  var error = moka_error()
  guard call(&error) == succeeded else { throw MokaError(error) }
}

/// `value` in the type that the C interface has for it.
func checked<T: FixedWidthInteger>(_ name: String, _ value: Int) throws -> T {
  guard let fits = T(exactly: value) else {
    throw MokaError(.invalidArgument, "\(name) is \(value), must be \(T.min) to \(T.max)")
  }
  return fits
}

/// A C string ends at its first NUL.
func noNul(_ name: String, _ text: String) throws -> String {
  guard !text.utf8.contains(0) else {
    throw MokaError(.invalidArgument, "\(name) has a character NUL in it")
  }
  return text
}

/// The path of a file's URL.
func filePath(_ url: URL) throws -> String {
  guard url.isFileURL else {
    throw MokaError(.invalidArgument, "\(url.absoluteString) is no URL of a file")
  }
  return try noNul("the path", url.path)
}
