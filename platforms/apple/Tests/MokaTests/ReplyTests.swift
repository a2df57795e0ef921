import Foundation
import XCTest

@testable import Moka

final class ReplyTests: XCTestCase {
  func testTheTextIsThatOfMokaRun() async throws {
    let session = try Session(try await stories())
    var pieces: [String] = []
    let options = ReplyOptions(maxTokens: 60, sampling: Sampling(seed: 3))
    for try await piece in session.reply(prompt, options: options) { pieces.append(piece) }
    XCTAssertGreaterThan(pieces.count, 40)
    XCTAssertFalse(pieces.contains(""))
    XCTAssertEqual("Once upon a time" + pieces.joined() + "\n", try Files.text("run.txt"))
    let result = try await session.lastReply.unwrap()
    XCTAssertEqual(result.end, .tokens)
    XCTAssertEqual([result.tokens, result.seed], [60, 3])
    let position = try await session.position
    XCTAssertEqual(position, UInt64(1 + (try session.model.tokens(of: "Once upon a time")).count + 60))
  }

  func testASeedThatWasDrawnWritesTheSameAgain() async throws {
    let model = try await stories()
    let first = try Session(model)
    let text = try await all(first.reply(prompt, options: ReplyOptions(maxTokens: 20)))
    let seed = try await first.lastReply.unwrap().seed
    let options = ReplyOptions(maxTokens: 20, sampling: Sampling(seed: seed))
    let again = try await all(Session(model).reply(prompt, options: options))
    XCTAssertEqual(text, again)
    let other = try Session(model)
    _ = try await all(other.reply(prompt, options: ReplyOptions(maxTokens: 1)))
    let another = try await other.lastReply.unwrap().seed
    XCTAssertNotEqual(another, seed)
  }

  /// Every token of this model is one byte of a character that has four.
  func testCharactersAreWhole() async throws {
    let model = try await open(Files.fixture("fox.moka"))
    XCTAssertEqual(try model.tokens(of: "\u{1f98a}"), [0xf0, 0x9f, 0xa6, 0x8a])
    let session = try Session(model)
    var pieces: [String] = []
    let options = ReplyOptions(maxTokens: 40, loopTokens: 0, sampling: greedy)
    for try await piece in session.reply("", options: options) { pieces.append(piece) }
    XCTAssertEqual(pieces, [String](repeating: "\u{1f98a}", count: 10))

    // One that is cut by the end, and one that is cut by who reads.
    let cut = ReplyOptions(maxTokens: 6, loopTokens: 0, sampling: greedy)
    let text = try await all(Session(model).reply("", options: cut))
    XCTAssertEqual(text, "\u{1f98a}\u{fffd}")
    let chat = try Chat(model)
    _ = try await all(chat.reply(options: ReplyOptions(maxTokens: 6, loopTokens: 0, sampling: greedy)))
    let rest = try await all(chat.reply(options: ReplyOptions(maxTokens: 6, loopTokens: 0)))
    XCTAssertEqual(rest, "\u{1f98a}\u{1f98a}")
  }

  func testWaysToEnd() async throws {
    let model = try await stories()
    func reply(_ options: ReplyOptions, _ session: Session) async throws -> (String, ReplyEnd?) {
      var options = options
      options.sampling = options.sampling ?? greedy
      let text = try await all(session.reply(prompt, options: options))
      return (text, await session.lastReply?.end)
    }
    let (whole, end) = try await reply(ReplyOptions(maxTokens: 30), Session(model))
    XCTAssertEqual(end, .tokens)
    let word = String(whole.split(separator: " ")[3])
    let stopped = try await reply(ReplyOptions(stop: ["never is there", word]), Session(model))
    let place = try whole.range(of: word).unwrap().lowerBound
    XCTAssertEqual(stopped.0, String(whole[..<place]))
    XCTAssertEqual(stopped.1, .stopText)
    let first = try model.tokens(of: whole)[0]
    let token = try await reply(ReplyOptions(stopTokens: [first]), Session(model))
    XCTAssertEqual(token.0, "")
    XCTAssertEqual(token.1, .stopToken)
    let time = ReplyOptions(maxTokens: 100_000, maxTime: .milliseconds(1), stopsAtEnd: false, loopTokens: 0)
    let timed = try await reply(time, Session(model))
    XCTAssertEqual(timed.1, .time)
    let fox = try await open(Files.fixture("fox.moka"))
    let loop = try await reply(ReplyOptions(loopTokens: 8), Session(fox))
    XCTAssertEqual(loop.1, .loop)
    var ends = Sampling(temperature: 0)
    ends.bias = Dictionary(uniqueKeysWithValues: (Token(1)..<8192).map { ($0, -Float.infinity) })
    let ended = try await reply(ReplyOptions(sampling: ends), Session(model))
    XCTAssertEqual(ended.1, .stopToken)
  }

  func testGuessesChangeNothing() async throws {
    let model = try await stories()
    let text = "The cat sat on the mat. The cat sat on the mat. The cat sat on the"
    let plain = ReplyOptions(maxTokens: 24, sampling: greedy)
    var guessing = plain
    guessing.lookup = 8
    let expected = try await all(Session(model).reply(.text(text), options: plain))
    let session = try Session(model)
    let found = try await all(session.reply(.text(text), options: guessing))
    XCTAssertEqual(found, expected)
    let result = try await session.lastReply.unwrap()
    XCTAssertGreaterThan(result.guessed, 0)
    XCTAssertLessThanOrEqual(result.accepted, result.guessed)
  }

  func testErrors() async throws {
    let session = try Session(try await stories())
    await assertFails(.invalidArgument, "temperature") {
      let options = ReplyOptions(sampling: Sampling(temperature: -1))
      _ = try await all(session.reply(prompt, options: options))
    }
    await assertFails(.invalidArgument, "max_tokens is 0, must be at least 1") {
      _ = try await all(session.reply(prompt, options: ReplyOptions(maxTokens: 0)))
    }
    await assertFails(.invalidArgument, "maxTokens is -1, must be 0 to") {
      _ = try await all(session.reply(prompt, options: ReplyOptions(maxTokens: -1)))
    }
    await assertFails(.invalidArgument, "maxTime is -1") {
      _ = try await all(session.reply(prompt, options: ReplyOptions(maxTime: .seconds(-1))))
    }
    await assertFails(.invalidArgument, "topK is -1") {
      let options = ReplyOptions(sampling: Sampling(topK: -1))
      _ = try await all(session.reply(prompt, options: options))
    }
    await assertFails(.invalidArgument, "stop has a character NUL") {
      _ = try await all(session.reply(prompt, options: ReplyOptions(stop: ["a\0b"])))
    }
    let position = try await session.position
    XCTAssertEqual(position, 0)
    let listops = try Session(try await open(Files.model("listops")))
    await assertFails(.unsupported, "only language models") {
      _ = try await all(listops.reply(.tokens([3, 4])))
    }
    let nothing = try await listops.position
    XCTAssertEqual(nothing, 0)
    let none = await session.lastReply
    XCTAssertNil(none)
  }

  // MARK: ways to leave

  /// Whether the session stands behind the token at which it was stopped, and goes on.
  private func assertStopped(_ session: Session, line: UInt = #line) async throws {
    let began = ContinuousClock.now
    let position = try await session.position
    // A token of this model takes some milliseconds; the machine may be busy.
    XCTAssertLessThan(ContinuousClock.now - began, .seconds(5), line: line)
    let result = try await session.lastReply.unwrap()
    XCTAssertNil(result.end, line: line)
    let read = UInt64(1 + (try session.model.tokens(of: "Once upon a time")).count)
    XCTAssertEqual(position, read + result.tokens, line: line)
    XCTAssertLessThan(result.tokens, 1_000_000, line: line)
    try await session.append(.tokens([5]))
    let next = try await session.position
    XCTAssertEqual(next, position + 1, line: line)
  }

  func testLeavingTheLoop() async throws {
    let session = try Session(try await stories())
    var count = 0
    for try await _ in session.reply(prompt, options: endless) {
      count += 1
      if count == 3 { break }
    }
    try await assertStopped(session)
  }

  func testAStreamThatIsDropped() async throws {
    let session = try Session(try await stories())
    let (began, begin) = AsyncStream.makeStream(of: Void.self)
    do {
      let stream = session.reply(prompt, options: endless)
      let reader = Task {
        for try await _ in stream {
          begin.yield()
          break
        }
      }
      for await _ in began { break }
      try await reader.value
    }
    try await assertStopped(session)
  }

  func testCancellingTheTask() async throws {
    let session = try Session(try await stories())
    let (told, tell) = AsyncStream.makeStream(of: Void.self)
    let task = Task {
      var pieces = 0
      for try await _ in session.reply(prompt, options: endless) {
        pieces += 1
        if pieces == 3 { tell.yield() }
      }
      return pieces
    }
    for await _ in told { break }
    task.cancel()
    let pieces = try await task.value  // the loop ends and says nothing
    XCTAssertGreaterThanOrEqual(pieces, 3)
    try await assertStopped(session)
  }

  func testCancellingTheTaskWhileThePromptIsRead() async throws {
    let session = try Session(try await stories())
    try await session.append(.tokens([0]))
    let before = try await session.save()
    let long = Input.tokens([Token](repeating: 5, count: 2_000_000))
    let reply = Task {
      for try await _ in session.reply(long) { XCTFail("it read all of that") }
    }
    try await Task.sleep(for: .milliseconds(100))
    reply.cancel()
    try await reply.value
    let appending = Task { try await session.append(long) }
    try await Task.sleep(for: .milliseconds(100))
    appending.cancel()
    do {
      try await appending.value
      XCTFail("it read all of that")
    } catch {
      XCTAssertTrue(error is CancellationError, "\(error)")
    }
    let after = try await session.save()
    XCTAssertEqual(before, after)
    try await session.append(.tokens([5]))
  }

  func testCancelled() async throws {
    let session = try Session(try await stories())
    session.cancel()  // nothing runs: nothing happens
    let stream = session.reply(prompt, options: endless)
    var pieces = stream.makeAsyncIterator()
    _ = try await pieces.next()
    session.cancel()
    await assertFails(.cancelled, "cancelled") { while try await pieces.next() != nil {} }
    try await assertStopped(session)
  }

  func testWhatWasCancelledBeforeItBegan() async throws {
    let session = try Session(try await stories())
    let first = session.reply(prompt, options: endless)
    var pieces = first.makeAsyncIterator()
    _ = try await pieces.next()
    let waiting = Task { try await all(session.reply("never", options: endless)) }
    try await Task.sleep(for: .milliseconds(20))
    waiting.cancel()
    let nothing = try await waiting.value
    XCTAssertEqual(nothing, "")
    session.cancel()
    await assertFails(.cancelled) { while try await pieces.next() != nil {} }
    let told = try await session.lastReply.unwrap()
    XCTAssertNil(told.end)
  }

  /// A cancel that comes when the writing is just over must not end the next call.
  func testCancelsThatComeTooLate() async throws {
    let model = try await stories()
    let session = try Session(model)
    let chat = try Chat(model)
    try await session.append(.tokens([0]))
    try await chat.append("There was a king.")
    let short = ReplyOptions(maxTokens: 2, sampling: greedy)
    for round in 0..<150 {
      let task = Task {
        _ = try await all(session.reply(options: short))
        _ = try await all(chat.reply(options: short))
      }
      try await Task.sleep(for: .microseconds(round * 100))
      task.cancel()
      try await task.value
      try await session.append(.tokens([5]))
      try await chat.append("x")
    }
  }

  // MARK: side by side

  func testTwoSessionsInParallel() async throws {
    let model = try await stories()
    @Sendable func text(_ seed: UInt64, _ executor: ModelExecutor?) async throws -> String {
      let options = ReplyOptions(maxTokens: 30, sampling: Sampling(seed: seed))
      return try await all(Session(model, executor: executor).reply(prompt, options: options))
    }
    let alone = try await [text(1, nil), text(2, nil)]
    async let a = text(1, nil)
    async let b = text(2, nil)  // of the same executor, token by token in turns
    async let c = text(1, ModelExecutor(model, threads: 1))
    async let d = text(2, ModelExecutor(model, threads: 1))  // side by side
    let found = try await [a, b, c, d]
    XCTAssertEqual(found, alone + alone)
  }

  func testCallsOfOneSessionComeOneAfterTheOther() async throws {
    let session = try Session(try await stories())
    try await session.append(.tokens([0]))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<20 { group.addTask { try await session.append(.tokens([5])) } }
      try await group.waitForAll()
    }
    let position = try await session.position
    XCTAssertEqual(position, 21)
  }

  /// Swift has a thread per core. None of them may stand still while models compute.
  func testSwiftsThreadsAreFree() async throws {
    let model = try await stories()
    let count = 2 * ProcessInfo.processInfo.activeProcessorCount
    let readers = try (0..<count).map { _ -> Task<Void, any Error> in
      let session = try Session(model)
      return Task { _ = try await all(session.reply(prompt, options: endless)) }
    }
    let began = ContinuousClock.now
    for _ in 0..<50 { try await Task.sleep(for: .milliseconds(1)) }
    let took = ContinuousClock.now - began
    for reader in readers { reader.cancel() }
    for reader in readers { try await reader.value }
    XCTAssertLessThan(took, .seconds(10))
  }
}
