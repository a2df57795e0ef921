import CMoka
import Foundation
import XCTest

@testable import Moka

final class ModelTests: XCTestCase {
  func testInfo() async throws {
    let model = try await stories()
    let info = model.info
    XCTAssertEqual(info.input, .tokens)
    XCTAssertEqual(info.output, .language)
    XCTAssertEqual([info.vocabSize, info.width, info.layers], [8192, 448, 7])
    XCTAssertEqual(info.outputs, 8192)
    XCTAssertTrue(info.isCausal && info.hasTokenizer)
    XCTAssertFalse(info.readsMemory)
    XCTAssertEqual(info.startToken, 0)
    XCTAssertEqual(info.classes, [])
    XCTAssertNil(info.positionLimit)
    XCTAssertEqual(info.threads, 1)
    XCTAssertEqual(model.executor.threads, 1)
    XCTAssertEqual(info.parameters, 22_781_248)
    XCTAssertGreaterThan(info.stateBytes, 2_000_000)
    let forecaster = try await open(Files.model("forecaster"))
    XCTAssertEqual(forecaster.info.output, .regression)
    XCTAssertEqual(forecaster.info.quantiles.count, forecaster.info.forecastQuantiles)
    XCTAssertEqual(forecaster.info.quantiles, [0.1, 0.5, 0.9])
  }

  func testText() async throws {
    let model = try await stories()
    let text = "There was a k\u{f6}nig \u{1f98a}."
    let ids = try model.tokens(of: text)
    XCTAssertEqual(try model.text(of: ids), text)
    XCTAssertEqual(try model.tokens(of: ""), [])
    XCTAssertEqual(try model.text(of: []), "")
    XCTAssertNotEqual(try model.tokens(of: "<|endoftext|>"), [0])
    XCTAssertEqual(try model.tokens(of: "<|endoftext|>", parsingSpecial: true), [0])
    await assertFails(.outOfRange, "8192") { _ = try model.text(of: [8192]) }
    let forecaster = try await open(Files.model("forecaster"))
    await assertFails(.unsupported, "no tokenizer") { _ = try forecaster.tokens(of: "a") }
  }

  func testOpeningByDescriptor() async throws {
    let path = Files.model("listops").path
    let whole = try FileHandle(forReadingAtPath: path).unwrap()
    let model = try await Model.open(descriptor: whole.fileDescriptor)
    try whole.close()
    let named = try await Model.open(path: path)
    XCTAssertEqual(model.info.fingerprint, named.info.fingerprint)

    // Inside of another file, at a place that can be mapped and one that cannot.
    let data = try Data(contentsOf: Files.model("listops"))
    for before in [64, 3] {
      let url = try folder(of: self).appendingPathComponent("package")
      try (Data(count: before) + data + Data(count: 100)).write(to: url)
      let package = try FileHandle(forReadingFrom: url)
      let inside = try await Model.open(
        descriptor: package.fileDescriptor, offset: UInt64(before), length: UInt64(data.count))
      try package.close()
      let answer = try await inside.classify("[MIN 4 [MAX 2 8 ] 7 ]")
      XCTAssertEqual(answer.label, "4")
    }
    await assertFails(.invalidArgument, "-1 is no open file descriptor") {
      _ = try await Model.open(descriptor: -1)
    }
  }

  func testProgress() async throws {
    let shares = Box<[Double]>([])
    var options = OpenOptions()
    options.checksData = true
    _ = try await Model.open(Files.model("stories"), options: options) { share in
      shares.change { $0.append(share) }
    }
    XCTAssertGreaterThan(shares.now.count, 1)
    XCTAssertEqual(shares.now, shares.now.sorted())
    XCTAssertEqual(shares.now.last, 1)
  }

  func testCancellingTheTaskThatOpens() async throws {
    let (told, tell) = AsyncStream.makeStream(of: Void.self)
    let task = Task {
      var options = OpenOptions()
      options.checksData = true
      return try await Model.open(Files.model("stories"), options: options) { _ in
        tell.yield()
        Thread.sleep(forTimeInterval: 0.02)
      }
    }
    for await _ in told { break }
    task.cancel()
    do {
      _ = try await task.value
      XCTFail("it succeeded")
    } catch {
      XCTAssertTrue(error is CancellationError, "\(error)")
    }
  }

  func testErrorsHaveTheirCodes() async throws {
    await assertFails(.notFound, "no-such.moka") { _ = try await Model.open(path: "no-such.moka") }
    let url = try folder(of: self).appendingPathComponent("damaged.moka")
    var data = try Data(contentsOf: Files.model("listops"))
    try data.prefix(1000).write(to: url)
    await assertFails(.corrupt, "damaged.moka") { _ = try await Model.open(url) }
    data[data.count - 100] ^= 1
    try data.write(to: url)
    await assertFails(.corrupt) {
      var options = OpenOptions()
      options.checksData = true
      _ = try await Model.open(url, options: options)
    }
    await assertFails(.invalidArgument, "threads is -1") {
      var options = OpenOptions()
      options.threads = -1
      _ = try await Model.open(url, options: options)
    }
    await assertFails(.invalidArgument, "chunk is -1, must be 0 to 4294967295") {
      var options = OpenOptions()
      options.chunk = -1
      _ = try await Model.open(url, options: options)
    }
    await assertFails(.outOfRange, "limit_memory_bytes") {
      var options = OpenOptions()
      options.maxMemoryBytes = 1000
      _ = try await Model.open(Files.model("stories"), options: options)
    }
    await assertFails(.unsupported) {
      var options = OpenOptions()
      #if arch(x86_64)
        options.kernels = "neon"
      #else
        options.kernels = "avx2"
      #endif
      _ = try await Model.open(Files.model("listops"), options: options)
    }
    await assertFails(.invalidArgument, "NUL") { _ = try await Model.open(path: "a\0b") }
    await assertFails(.invalidArgument, "no URL of a file") {
      _ = try await Model.open(try XCTUnwrap(URL(string: "mailto:a@b")))
    }
  }

  func testCodesAreThoseOfTheLibrary() {
    // unknown: a code that there is none of.
    var names: [String] = []
    for code in Int32(1)... {
      let name = String(cString: moka_status_name(code))
      if name == "unknown" { break }
      names.append(name)
    }
    XCTAssertEqual(names.count, MokaError.Code.allCases.count)
    XCTAssertEqual(names[0], "invalid_argument")
    XCTAssertEqual(MokaError.Code.allCases.map(\.rawValue), Array(1...11))
    XCTAssertEqual(names[Int(MokaError.Code.cancelled.rawValue) - 1], "cancelled")
  }

  func testSnapshots() async throws {
    let model = try await open(Files.fixture("prefixed.moka"))
    let snapshots = try model.snapshots
    XCTAssertEqual(snapshots.map(\.name), ["opening"])
    XCTAssertEqual(snapshots[0].text, "Once upon a time")
    XCTAssertTrue(snapshots[0].isUsable)
    XCTAssertGreaterThan(snapshots[0].bytes, 0)

    let session = try Session(model)
    try await session.restore(snapshot: "opening")
    let read = try Session(model)
    try await read.append(prompt)
    let (position, logits) = try await (session.position, session.logits)
    let (expected, row) = try await (read.position, read.logits)
    XCTAssertEqual(position, expected)
    XCTAssertEqual(snapshots[0].position, position)
    XCTAssertLessThan(zip(logits, row).map { abs($0 - $1) }.max() ?? 1, 1e-2)
    await assertFails(.notFound, "opening") { try await session.restore(snapshot: "other") }
    let plain = try await stories()
    XCTAssertEqual(try plain.snapshots, [])
  }
}

extension Optional {
  func unwrap() throws -> Wrapped { try XCTUnwrap(self) }
}
