import Foundation
import XCTest

@testable import Moka

final class ChatTests: XCTestCase {
  private let short = ReplyOptions(maxTokens: 8, sampling: greedy)

  func testTurns() async throws {
    let model = try await stories()
    let chat = try Chat(model)
    var current = try await chat.currentTurn
    XCTAssertEqual(current, 0)
    let first = try await chat.append("There was a king.")
    let text = try await all(chat.reply(options: short))
    let path = try await chat.path
    XCTAssertEqual(path.map(\.role), [.user, .model])
    XCTAssertEqual(path.map(\.text), ["There was a king.", text])
    XCTAssertEqual(path[1].parent, first)
    XCTAssertEqual([path[0].end, path[1].end], [nil, .tokens])
    XCTAssertEqual(try model.text(of: path[1].tokens), text)
    XCTAssertTrue(path[1].isKept)
    let (kept, logits) = try await (chat.keptStateBytes, chat.logits)
    XCTAssertGreaterThan(kept, 0)
    XCTAssertEqual(logits.count, 8192)

    let warm = ReplyOptions(maxTokens: 8, sampling: Sampling(temperature: 1, seed: 5))
    let other = try await all(chat.regenerate(options: warm))
    XCTAssertNotEqual(other, text)
    let turns = try await chat.turns
    XCTAssertEqual(turns.map(\.text), ["There was a king.", text, other])
    XCTAssertEqual(turns[2].parent, first)
    current = try await chat.undo()
    XCTAssertEqual(current, first)
    let edited = try await chat.edit(first, "There was a queen.")
    let onlyEdited = try await chat.path
    XCTAssertEqual(onlyEdited.map(\.id), [edited])
    try await chat.go(to: path[1].id)
    current = try await chat.currentTurn
    XCTAssertEqual(current, path[1].id)
    try await chat.remove(turns[2].id)
    await assertFails(.notFound) { _ = try await chat.turn(turns[2].id) }
    let branch = try await chat.branch(after: 0, "In a forest", role: .system)
    let branched = try await chat.turn(branch)
    XCTAssertEqual(branched.parent, 0)
    XCTAssertEqual(branched.role, .system)
  }

  func testOneCallForBothTurns() async throws {
    let model = try await stories()
    let (a, b) = (try Chat(model), try Chat(model))
    try await a.append("There was a king.")
    let (first, second) = try await (
      all(a.reply(options: short)), all(b.reply("There was a king.", options: short))
    )
    XCTAssertEqual(first, second)
  }

  func testFiles() async throws {
    let model = try await stories()
    var options = ChatOptions()
    options.sampling = Sampling(seed: 3)
    let chat = try Chat(model, options: options)
    _ = try await all(chat.reply("There was a king.", options: ReplyOptions(maxTokens: 5)))
    let saved = try await chat.save()
    let file = try folder(of: self).appendingPathComponent("a.chat")
    try await chat.save(to: file)
    XCTAssertEqual(try Data(contentsOf: file), saved)
    let path = try await chat.path
    let expected = try await all(chat.reply(options: ReplyOptions(maxTokens: 10)))
    for opened in [try await Chat.open(model, saved), try await Chat.open(model, from: file)] {
      let texts = try await opened.path.map(\.text)
      XCTAssertEqual(texts, path.map(\.text))
      let again = try await opened.save()
      XCTAssertEqual(again, saved)
      let text = try await all(opened.reply(options: ReplyOptions(maxTokens: 10)))
      XCTAssertEqual(text, expected)
    }
    await assertFails(.corrupt) { _ = try await Chat.open(model, saved.dropLast()) }
    await assertFails(.notFound) {
      _ = try await Chat.open(model, from: file.appendingPathExtension("not"))
    }
    var other = ChatOptions()
    other.template.id = "other"
    await assertFails(.failedPrecondition, "other") {
      _ = try await Chat.open(model, saved, options: other)
    }
  }

  func testTemplates() async throws {
    let model = try await stories()
    var options = ChatOptions()
    options.template.id = "questions"
    options.template.userPrefix = "Q: "
    options.template.userSuffix = "\nA:"
    let chat = try Chat(model, options: options)
    try await chat.append("Who?")
    let turn = try await chat.path[0]
    XCTAssertEqual(try model.text(of: turn.tokens), "Q: Who?\nA:")
    XCTAssertEqual(turn.text, "Who?")
    XCTAssertGreaterThan(turn.templateHead, 0)
    options.template.userPrefix = "a\0b"
    await assertFails(.invalidArgument, "template.userPrefix has a character NUL") {
      _ = try Chat(model, options: options)
    }
  }

  func testPrefixes() async throws {
    let model = try await open(Files.fixture("prefixed.moka"))
    var options = ChatOptions()
    options.from = "opening"
    let chat = try Chat(model, options: options)
    let from = try await chat.from
    XCTAssertEqual(from, "opening")
    let text = try await all(chat.reply(options: short))
    XCTAssertFalse(text.isEmpty)
    let plain = try await Chat(model).from
    XCTAssertNil(plain)
    options.from = "other"
    await assertFails(.notFound, "opening") { _ = try Chat(model, options: options) }
  }

  func testLeavingTheLoopKeepsTheTurn() async throws {
    let chat = try Chat(try await stories())
    var pieces: [String] = []
    for try await piece in chat.reply("There was a king.", options: endless) {
      pieces.append(piece)
      if pieces.count == 3 { break }
    }
    let path = try await chat.path
    XCTAssertEqual(path.count, 2)
    XCTAssertTrue(path[1].text.hasPrefix(pieces.joined()), path[1].text)
    XCTAssertEqual(path[1].end, .stopped)
    let next = try await all(chat.reply(options: short))
    XCTAssertFalse(next.isEmpty)
  }

  func testCancellingTheTaskKeepsTheTurn() async throws {
    let chat = try Chat(try await stories())
    let (told, tell) = AsyncStream.makeStream(of: Void.self)
    let task = Task {
      for try await _ in chat.reply("There was a king.", options: endless) { tell.yield() }
    }
    for await _ in told { break }
    task.cancel()
    try await task.value
    let path = try await chat.path
    XCTAssertEqual(path.map(\.role), [.user, .model])
    XCTAssertEqual(path.last?.end, .stopped)
  }

  func testCancelLeavesTheChatAsItWas() async throws {
    let chat = try Chat(try await stories())
    let first = try await chat.append("There was a king.")
    let stream = chat.reply(options: endless)
    var pieces = stream.makeAsyncIterator()
    _ = try await pieces.next()
    chat.cancel()
    await assertFails(.cancelled) { while try await pieces.next() != nil {} }
    let turns = try await chat.turns
    XCTAssertEqual(turns.map(\.id), [first])
    chat.cancel()  // nothing runs
    try await chat.append("And a queen.")
  }

  func testCancellingTheTaskThatReads() async throws {
    let chat = try Chat(try await stories())
    let long = String(repeating: "There was a king. ", count: 100_000)
    let task = Task { try await chat.append(long) }
    try await Task.sleep(for: .milliseconds(100))
    task.cancel()
    do {
      _ = try await task.value
      XCTFail("it read all of that")
    } catch {
      XCTAssertTrue(error is CancellationError, "\(error)")
    }
    let turns = try await chat.turns
    XCTAssertEqual(turns, [])
    try await chat.append("There was a king.")
  }

  func testProgress() async throws {
    let told = Box<[ReadProgress]>([])
    var options = ChatOptions()
    options.stateBudgetBytes = 0
    options.progress = { progress in told.change { $0.append(progress) } }
    let chat = try Chat(try await stories(), options: options)
    let turn = try await chat.append(String(repeating: "There was a king. ", count: 20))
    let position = try await chat.turn(turn).position
    XCTAssertEqual(told.now.first, ReadProgress(done: 0, total: position, again: false))
    XCTAssertEqual(told.now.last?.done, position)
    try await chat.append("And a queen.")
    try await chat.undo()
    XCTAssertTrue(told.now.contains { $0.again })
  }

  func testErrors() async throws {
    let model = try await stories()
    let chat = try Chat(model)
    await assertFails(.failedPrecondition) { try await chat.undo() }
    await assertFails(.notFound, "99") { try await chat.go(to: 99) }
    await assertFails(.notFound, "99") { _ = try await chat.turn(99) }
    await assertFails(.failedPrecondition) { _ = try await all(chat.regenerate()) }
    var options = ChatOptions()
    options.savedStates = -1
    await assertFails(.invalidArgument, "savedStates is -1") {
      _ = try Chat(model, options: options)
    }
    await chat.close()
    await assertFails(.failedPrecondition, "the chat is closed") { _ = try await chat.turns }
    await assertFails(.failedPrecondition, "the chat is closed") { _ = try await all(chat.reply("a")) }
    let listops = try await open(Files.model("listops"))
    await assertFails(.unsupported) { _ = try Chat(listops) }
  }
}
