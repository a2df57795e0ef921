import CMoka
import Foundation

/// Text of the C interface: UTF-8 with a length.
func utf8Text(at start: UnsafePointer<CChar>?, _ size: Int) -> String {
  String(decoding: UnsafeRawBufferPointer(start: start, count: size), as: UTF8.self)
}

/// C strings that live as long as the call of `body`; nil stays nil.
func withCStrings<Value>(
  _ texts: [String?], _ body: ([UnsafePointer<CChar>?]) throws -> Value
) throws -> Value {
  var copies: [UnsafeMutablePointer<CChar>?] = []
  defer { copies.forEach { free($0) } }
  for text in texts {
    let copy = text.map { strdup($0) } ?? nil
    guard (copy == nil) == (text == nil) else { throw MokaError(.outOfMemory, "no memory for a text") }
    copies.append(copy)
  }
  return try body(copies.map { UnsafePointer($0) })
}

/// A sequence that a model reads.
public enum Input: Sendable, Hashable, ExpressibleByStringInterpolation {
  /// Of a model with a tokenizer. Special tokens in it are plain text.
  case text(String)
  /// Ids, read as they are.
  case tokens([Token])
  /// Of a model that reads numbers: `[steps][info.features]` in the units of the data, or grey values
  /// row by row.
  case values([Float])

  public init(stringLiteral text: String) { self = .text(text) }
}

/// The same in the form of the C interface.
struct Steps: Sendable {
  var tokens: [Token] = []
  var values: [Float] = []

  init() {}

  init(_ input: Input, of model: Model) throws {
    switch input {
    case .text(let text): tokens = try model.tokens(of: text)
    case .tokens(let ids): tokens = ids
    case .values(let numbers): values = numbers
    }
  }

  func native<Value>(_ body: (UnsafePointer<moka_sequence>) throws -> Value) rethrows -> Value {
    try tokens.withUnsafeBufferPointer { tokens in
      try values.withUnsafeBufferPointer { values in
        var raw = moka_sequence(
          tokens: tokens.baseAddress, token_count: tokens.count, values: values.baseAddress,
          value_count: values.count)
        return try body(&raw)
      }
    }
  }

  /// Reads them on in a session.
  func append(to session: OpaquePointer, _ error: UnsafeMutablePointer<moka_error>) -> moka_status {
    values.isEmpty
      ? moka_session_append(session, tokens, tokens.count, error)
      : moka_session_append_values(session, values, values.count, error)
  }
}
