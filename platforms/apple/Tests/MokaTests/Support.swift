import Foundation
import XCTest

@testable import Moka

/// The files that tests read. MOKA_FIXTURES has what make_fixtures.py made.
enum Files {
  static let tree = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  static func model(_ name: String) -> URL {
    tree.appendingPathComponent("models/\(name).moka")
  }

  static func fixture(_ name: String) throws -> URL {
    let folder = try XCTUnwrap(
      ProcessInfo.processInfo.environment["MOKA_FIXTURES"],
      "MOKA_FIXTURES is not set; platforms/apple/test.sh runs these tests")
    return URL(fileURLWithPath: folder).appendingPathComponent(name)
  }

  static func text(_ name: String) throws -> String {
    try String(contentsOf: fixture(name), encoding: .utf8)
  }

  static func json(_ name: String) throws -> [String: Any] {
    let found = try JSONSerialization.jsonObject(with: Data(contentsOf: fixture(name)))
    return try XCTUnwrap(found as? [String: Any])
  }

  /// Of little-endian float32.
  static func floats(_ name: String) throws -> [Float] {
    let data = try Data(contentsOf: fixture(name))
    return data.withUnsafeBytes { bytes in
      (0..<bytes.count / 4).map {
        Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
      }
    }
  }
}

let prompt: Input = "Once upon a time"

/// One thread, so that many sessions at once are fair to each other on small machines.
func open(_ url: URL) async throws -> Model {
  var options = OpenOptions()
  options.threads = 1
  return try await Model.open(url, options: options)
}
func stories() async throws -> Model { try await open(Files.model("stories")) }

/// Always the same text, on every machine.
let greedy = Sampling(temperature: 0, repeatPenalty: 1)
/// Writing that ends by being stopped.
let endless = ReplyOptions(
  maxTokens: 1_000_000, stopsAtEnd: false, loopTokens: 0, sampling: Sampling(temperature: 1, seed: 1))

func all(_ stream: AsyncThrowingStream<String, any Error>) async throws -> String {
  var text = ""
  for try await piece in stream { text += piece }
  return text
}

/// That `body` fails with this code, and the words in its message.
func assertFails(
  _ code: MokaError.Code, _ words: String = "", file: StaticString = #filePath, line: UInt = #line,
  _ body: () async throws -> Void
) async {
  do {
    try await body()
    XCTFail("it succeeded", file: file, line: line)
  } catch let error as MokaError {
    XCTAssertEqual(error.code, code, error.message, file: file, line: line)
    // Nothing contains the empty text, by Foundation.
    XCTAssert(
      words.isEmpty || error.message.contains(words), error.message, file: file, line: line)
    XCTAssertEqual(error.localizedDescription, error.message, file: file, line: line)
  } catch {
    XCTFail("\(error)", file: file, line: line)
  }
}

/// An empty folder that goes with the test.
func folder(of test: XCTestCase) throws -> URL {
  let url = FileManager.default.temporaryDirectory.appendingPathComponent("moka-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  test.addTeardownBlock { try? FileManager.default.removeItem(at: url) }
  return url
}

/// Bytes of memory of this process; nil where there is no way to know.
func residentBytes() -> Int? {
  guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8),
    let pages = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
  else { return nil }
  return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
}

/// For what happens on other threads.
final class Box<Value: Sendable>: Sendable {
  private let value: Locked<Value>
  init(_ value: Value) { self.value = Locked(value) }
  var now: Value { value.with { $0 } }
  func change(_ body: (inout Value) -> Void) { value.with(body) }
}
