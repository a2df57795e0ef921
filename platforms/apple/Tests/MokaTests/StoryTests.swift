import Foundation
import Moka
import Story
import XCTest

/// The sample app, but for its screen.
final class StoryTests: XCTestCase {
  func testAStoryIsWrittenTakenBackAndKept() async throws {
    try await Self.writtenTakenBackAndKept(folder(of: self))
  }
  func testStopping() async throws { try await Self.stopping(folder(of: self)) }
  func testWhatCannotBeOpened() async throws { try await Self.notOpened(folder(of: self)) }

  private static let options = ReplyOptions(maxTokens: 8, sampling: greedy)

  @MainActor
  private static func ready(_ story: Story) async throws {
    for _ in 0..<10_000 where story.state == .writing { try await Task.sleep(for: .milliseconds(1)) }
    XCTAssertEqual(story.state, .ready)
    XCTAssertNil(story.problem)
  }

  @MainActor
  private static func writtenTakenBackAndKept(_ folder: URL) async throws {
    let file = folder.appendingPathComponent("bedtime.chat")
    let story = Story(keptIn: file, options: options)
    XCTAssertEqual(story.state, .opening)
    story.write("too early")
    await story.open(Files.model("stories"))
    XCTAssertEqual(story.state, .ready)
    story.write("Once upon a time")
    XCTAssertEqual(story.state, .writing)
    try await ready(story)
    XCTAssertEqual(story.turns.map(\.role), [.user, .model])
    XCTAssertEqual(story.unfinished, "")
    story.write(" And then")
    try await ready(story)
    XCTAssertEqual(story.turns.count, 4)
    await story.undo()
    XCTAssertEqual(story.turns.count, 2)
    await story.save()

    let again = Story(keptIn: file, options: options)
    await again.open(Files.model("stories"))
    XCTAssertEqual(again.turns.map(\.text), story.turns.map(\.text))
    XCTAssertEqual(again.turns.map(\.tokens), story.turns.map(\.tokens))
    again.write(" And then")
    story.write(" And then")
    try await ready(again)
    try await ready(story)
    XCTAssertEqual(again.turns.map(\.text), story.turns.map(\.text))
  }

  @MainActor
  private static func stopping(_ folder: URL) async throws {
    let file = folder.appendingPathComponent("bedtime.chat")
    let story = Story(keptIn: file, options: endless)
    await story.open(Files.model("stories"))
    story.write("Once upon a time")
    while story.unfinished.isEmpty { try await Task.sleep(for: .milliseconds(1)) }
    let shown = story.unfinished
    await story.stop()
    XCTAssertEqual(story.state, .ready)
    XCTAssertEqual(story.turns.count, 2)
    XCTAssertTrue(story.turns[1].text.hasPrefix(shown))
    story.write(" And then")
    await story.save()  // as when the app goes to the background
    XCTAssertEqual(story.state, .ready)
    XCTAssertTrue(FileManager.default.fileExists(atPath: file.path))
  }

  @MainActor
  private static func notOpened(_ folder: URL) async throws {
    let story = Story(keptIn: folder.appendingPathComponent("a.chat"))
    await story.open(folder.appendingPathComponent("none.moka"))
    guard case .failed(let why) = story.state else { return XCTFail("\(story.state)") }
    XCTAssertTrue(why.contains("none.moka"), why)

    let file = folder.appendingPathComponent("b.chat")
    try Data("no chat".utf8).write(to: file)
    let other = Story(keptIn: file, options: options)
    await other.open(Files.model("stories"))
    XCTAssertEqual(other.state, .ready)
    XCTAssertTrue(other.problem?.contains("a new one begins") ?? false)
    XCTAssertEqual(
      try String(contentsOf: file.appendingPathExtension("unreadable"), encoding: .utf8), "no chat")
  }
}
