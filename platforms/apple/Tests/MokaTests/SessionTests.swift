import Foundation
import XCTest

@testable import Moka

final class SessionTests: XCTestCase {
  static let ids: [Token] = [0] + (100..<140)

  func testLogitsAreThoseOfMokaLogits() async throws {
    let model = try await stories()
    let expected = try Files.floats("logits.f32")
    XCTAssertEqual(expected.count, Self.ids.count * 8192)
    let session = try Session(model)
    try await session.append(.tokens(Self.ids))
    let logits = try await session.logits
    XCTAssertEqual(logits.map(\.bitPattern), expected.suffix(8192).map(\.bitPattern))
    let position = try await session.position
    XCTAssertEqual(position, 41)
  }

  func testTextBeginsWithTheTokenThatBeginsTexts() async throws {
    let model = try await stories()
    let (text, ids) = (try Session(model), try Session(model))
    try await text.append("Once")
    try await ids.append(.tokens([0] + model.tokens(of: "Once")))
    let (a, b) = try await (text.logits, ids.logits)
    XCTAssertEqual(a, b)
    try await text.append(" upon")
    let position = try await text.position
    XCTAssertEqual(position, UInt64(1 + (try model.tokens(of: "Once") + model.tokens(of: " upon")).count))
  }

  func testNothingRead() async throws {
    let session = try Session(try await stories())
    let (logits, position) = try await (session.logits, session.position)
    XCTAssertEqual(logits, [])
    XCTAssertEqual(position, 0)
    try await session.append(.tokens([]))
    await assertFails(.failedPrecondition, "nothing was read") { _ = try await all(session.reply()) }
  }

  func testAFailedCallChangesNothing() async throws {
    let session = try Session(try await stories())
    try await session.append(.tokens([0, 5]))
    let before = try await session.save()
    await assertFails(.outOfRange, "8192") { try await session.append(.tokens([1, 8192])) }
    await assertFails(.invalidArgument) { try await session.append(.values([1])) }
    await assertFails(.invalidArgument, "memory") { try await session.append(memory: "a") }
    let after = try await session.save()
    XCTAssertEqual(before, after)
  }

  func testForkAndReset() async throws {
    let session = try Session(try await stories())
    try await session.append(.tokens([0, 5, 6]))
    let copy = try await session.fork()
    try await copy.append(.tokens([7]))
    let positions = try await [session.position, copy.position]
    XCTAssertEqual(positions, [3, 4])
    try await session.append(.tokens([7]))
    let (a, b) = try await (session.logits, copy.logits)
    XCTAssertEqual(a, b)
    try await session.reset()
    let position = try await session.position
    XCTAssertEqual(position, 0)
  }

  func testSaveAndRestoreToTheBit() async throws {
    let model = try await stories()
    let session = try Session(model)
    try await session.append(.tokens(Self.ids))
    let saved = try await session.save()
    let file = try folder(of: self).appendingPathComponent("a.session")
    try await session.save(to: file)
    XCTAssertEqual(try Data(contentsOf: file), saved)
    let options = ReplyOptions(maxTokens: 20, sampling: Sampling(seed: 5))
    let expected = try await all(session.reply(options: options))
    let end = try await session.save()

    let (other, third) = (try Session(model), try Session(model))
    try await other.restore(saved)
    try await third.append(.tokens([0, 1]))
    try await third.restore(from: file)
    for restored in [other, third] {
      let again = try await restored.save()
      XCTAssertEqual(again, saved)
      let text = try await all(restored.reply(options: options))
      XCTAssertEqual(text, expected)
      let after = try await restored.save()
      XCTAssertEqual(after, end)
    }
  }

  func testWhatIsNoSavedSession() async throws {
    let session = try Session(try await stories())
    try await session.append(.tokens([0, 1]))
    let saved = try await session.save()
    await assertFails(.corrupt) { try await session.restore(saved.dropLast()) }
    await assertFails(.corrupt) { try await session.restore(Data()) }
    await assertFails(.notFound, "none") {
      try await session.restore(from: URL(fileURLWithPath: "/none"))
    }
    let other = try Session(try await open(Files.model("listops")))
    await assertFails(.failedPrecondition, "another model") { try await other.restore(saved) }
    let after = try await session.save()
    XCTAssertEqual(after, saved)
  }

  func testUseAfterClose() async throws {
    let session = try Session(try await stories())
    try await session.append(.tokens([0]))
    await session.close()
    let closed = "the session is closed"
    await assertFails(.failedPrecondition, closed) { try await session.append(.tokens([1])) }
    await assertFails(.failedPrecondition, closed) { _ = try await session.logits }
    await assertFails(.failedPrecondition, closed) { _ = try await session.position }
    await assertFails(.failedPrecondition, closed) { _ = try await session.fork() }
    await assertFails(.failedPrecondition, closed) { _ = try await session.save() }
    await assertFails(.failedPrecondition, closed) { try await session.reset() }
    await assertFails(.failedPrecondition, closed) { _ = try await all(session.reply("a")) }
    session.cancel()
    await session.close()
  }

  func testCloseEndsAReply() async throws {
    let session = try Session(try await stories())
    let stream = session.reply(prompt, options: endless)
    var pieces = stream.makeAsyncIterator()
    _ = try await pieces.next()
    await session.close()
    await assertFails(.cancelled) { while try await pieces.next() != nil {} }
  }

  func testModelsWithoutSessions() async throws {
    let pairs = try await open(Files.fixture("pairs.moka"))
    await assertFails(.failedPrecondition) { _ = try Session(pairs) }
  }

  func testExecutorsOfTheirOwnChangeNoBit() async throws {
    let model = try await stories()
    let executor = try ModelExecutor(model, threads: 2)
    XCTAssertEqual(executor.threads, 2)
    let (a, b) = (try Session(model, executor: executor), try Session(model))
    try await a.append(.tokens(Self.ids))
    try await b.append(.tokens(Self.ids))
    let (first, second) = try await (a.logits, b.logits)
    XCTAssertEqual(first, second)
    await assertFails(.invalidArgument, "threads") { _ = try ModelExecutor(model, threads: 1000) }
  }

  func testAThousandSessionsLeaveNothingBehind() async throws {
    let model = try await stories()
    func use(_ count: Int, closed: Bool) async throws {
      for _ in 0..<count {
        let session = try Session(model)
        try await session.append(.tokens([0, 1]))
        for try await _ in session.reply(options: ReplyOptions(maxTokens: 2)) { break }
        if closed { await session.close() }
      }
    }
    try await use(200, closed: true)  // until the allocator has what its threads need
    try await use(200, closed: false)
    let before = residentBytes()
    try await use(500, closed: true)
    try await use(500, closed: false)
    guard let before, let after = residentBytes() else {
      throw XCTSkip("no /proc here to read this process' memory from")
    }
    // A session of this model has 2.4 MB.
    XCTAssertLessThan(after - before, 4 << 20)
  }

  func testAModelLivesAsLongAsItsSessions() async throws {
    let session = try await Session(stories())
    try await session.append(prompt)
    let logits = try await session.logits
    XCTAssertEqual(logits.count, 8192)
  }
}
