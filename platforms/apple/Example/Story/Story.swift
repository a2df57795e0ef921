import Foundation
import Moka
import Observation

/// A story in turns: what the screen shows, and what its buttons do. It is kept in a file, from which
/// the next start of the app goes on.
@MainActor
@Observable
public final class Story {
  public enum State: Hashable, Sendable {
    case opening
    case ready
    case writing
    /// There is no model; why.
    case failed(String)
  }

  public private(set) var state = State.opening
  /// From the first turn to the current one.
  public private(set) var turns: [Turn] = []
  /// What the model has written of the turn that it is at.
  public private(set) var unfinished = ""
  /// What went wrong, in words for people.
  public var problem: String?

  private let file: URL
  private let options: ReplyOptions
  private var chat: Chat?
  private var writing: Task<Void, Never>?

  /// `file`: where the story is kept. It need not be there yet.
  public init(keptIn file: URL, options: ReplyOptions = ReplyOptions(maxTokens: 200)) {
    self.file = file
    self.options = options
  }

  /// Opens the model, and the story where it was left.
  public func open(_ model: URL) async {
    guard chat == nil else { return }
    do {
      let model = try await Model.open(model)
      chat = try await restore(model)
      state = .ready
      await show()
    } catch {
      state = .failed(error.localizedDescription)
    }
  }

  private func restore(_ model: Model) async throws -> Chat {
    guard FileManager.default.fileExists(atPath: file.path) else { return try Chat(model) }
    do {
      return try await Chat.open(model, from: file)
    } catch let error as MokaError {
      // Its bytes stay: the next save would write over them.
      let aside = file.appendingPathExtension("unreadable")
      try? FileManager.default.removeItem(at: aside)
      try? FileManager.default.moveItem(at: file, to: aside)
      problem = "The story could not be opened, and a new one begins. \(error.message)"
      return try Chat(model)
    }
  }

  /// Puts the text into the story and lets the model write on.
  public func write(_ text: String) {
    guard state == .ready, let chat else { return }
    state = .writing
    writing = Task {
      do {
        for try await piece in chat.reply(text, options: options) { unfinished += piece }
      } catch {
        problem = error.localizedDescription
      }
      // What was stopped is a turn as well, which may have a word more than was shown.
      await show()
      unfinished = ""
      state = .ready
    }
  }

  /// Ends the writing; what there is of it stays.
  public func stop() async {
    writing?.cancel()
    await writing?.value
    writing = nil
  }

  /// Takes back the last turn of the model and the text before it.
  public func undo() async {
    await stop()
    guard let chat else { return }
    do {
      if try await chat.turn(chat.currentTurn).role == .model { try await chat.undo() }
      try await chat.undo()
    } catch {
      problem = error.localizedDescription
    }
    await show()
  }

  /// Stops the writing and keeps the story: the app may be ended behind this.
  public func save() async {
    await stop()
    do {
      try await chat?.save(to: file)
    } catch {
      problem = "The story could not be kept. \(error.localizedDescription)"
    }
  }

  private func show() async {
    turns = (try? await chat?.path) ?? []
  }
}
