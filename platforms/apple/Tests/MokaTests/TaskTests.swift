import Foundation
import XCTest

@testable import Moka

final class TaskTests: XCTestCase {
  func testAClass() async throws {
    let model = try await open(Files.model("listops"))
    let answer = try await model.classify("[MIN 4 [MAX 2 8 ] 7 ]")
    XCTAssertEqual(answer.label, "4")
    XCTAssertEqual(answer.best, 4)
    XCTAssertEqual(answer.probabilities.reduce(0, +), 1, accuracy: 1e-5)
    XCTAssertEqual(answer.logits.max(), answer.logits[4])
    XCTAssertEqual(model.info.classes.count, 10)
    let session = try Session(model)
    try await session.append("[MIN 4 [MAX 2 8 ] 7 ]")
    let logits = try await session.logits
    XCTAssertLessThan(distance(logits, answer.logits), 1e-3)
  }

  func testAVector() async throws {
    let model = try await open(Files.fixture("vectors.moka"))
    let vector = try await model.embed("hello")
    XCTAssertEqual(vector.count, model.info.outputs)
    let told = try Files.json("embed.json").values.compactMap { $0 as? [Double] }.first.unwrap()
    XCTAssertLessThan(distance(vector, told.map { Float($0) }), 1e-5)
    XCTAssertEqual(try Model.cosineSimilarity(vector, vector), 1, accuracy: 1e-6)
    let other = try await model.embed("good bye")
    XCTAssertLessThan(try Model.cosineSimilarity(vector, other), 1)
    XCTAssertEqual(try Model.cosineSimilarity([], []), 0)
    await assertFails(.invalidArgument, "a has 1 numbers and b 2") {
      _ = try Model.cosineSimilarity([1], [1, 2])
    }
  }

  func testAPair() async throws {
    let model = try await open(Files.fixture("pairs.moka"))
    let answer = try await model.compare("hello", "good bye")
    XCTAssertEqual(model.info.classes, ["other", "same"])
    XCTAssertEqual(answer.label, try Files.json("compare.json")["label"] as? String)
    await assertFails(.invalidArgument) { _ = try await model.classify("hello") }
  }

  func testAScore() async throws {
    let model = try await stories()
    let score = try await model.score(" king", after: "Once upon a time there was a")
    let told = try (Files.json("score.json")["log_likelihood"] as? Double).unwrap()
    XCTAssertEqual(score.logLikelihood, told, accuracy: 1e-5)
    XCTAssertEqual(score.logLikelihoods.reduce(0, +), score.logLikelihood, accuracy: 1e-6)
    XCTAssertEqual(score.tokens, try model.tokens(of: " king"))
    XCTAssertEqual(score.mostLikely.count, score.tokens.count)
    let ids = try await model.score([0] + model.tokens(of: "Once upon"), from: 1)
    let text = try await model.score("Once upon")
    XCTAssertEqual(ids, text)
    await assertFails(.outOfRange) { _ = try await model.score([5]) }
    await assertFails(.invalidArgument, "first is -1") { _ = try await model.score([5, 6], from: -1) }
  }

  func testAForecast() async throws {
    let model = try await open(Files.model("forecaster"))
    let history = try Files.text("series.csv").split(separator: "\n").map { Float($0) ?? .nan }
    XCTAssertEqual(history.count, 1024)
    let ahead = try await model.forecast(history, horizon: 20)
    XCTAssertEqual([ahead.steps, ahead.outputs, ahead.quantiles], [20, 1, 3])
    XCTAssertEqual(ahead.values.count, 60)
    // step,q0.1,q0.5,q0.9
    let rows = try Files.text("forecast.csv").split(separator: "\n").dropFirst()
    XCTAssertEqual(rows.count, 20)
    for (step, row) in rows.enumerated() {
      let told = row.split(separator: ",").dropFirst().compactMap { Float($0) }
      XCTAssertLessThan(distance((0..<3).map { ahead[step, 0, $0] }, told), 1e-5)
    }
    await assertFails(.invalidArgument, "horizon is 0") {
      _ = try await model.forecast(history, horizon: 0)
    }
    await assertFails(.invalidArgument) { _ = try await model.forecast([.nan], horizon: 1) }
  }

  func testErrors() async throws {
    let model = try await open(Files.model("listops"))
    await assertFails(.invalidArgument) { _ = try await model.classify(.tokens([])) }
    await assertFails(.outOfRange, "999") { _ = try await model.classify(.tokens([999])) }
    await assertFails(.invalidArgument) { _ = try await model.classify(.values([1])) }
    await assertFails(.invalidArgument) { _ = try await model.embed("[MAX 1 2 ]") }
    await assertFails(.invalidArgument) { _ = try await model.compare("1", "2") }
    await assertFails(.invalidArgument) { _ = try await model.score("1") }
    await assertFails(.invalidArgument) { _ = try await model.forecast([1], horizon: 1) }
  }

  func testProgressAndCancellation() async throws {
    let model = try await open(Files.model("listops"))
    let long = Input.text("[MAX " + String(repeating: "1 ", count: 2000) + "]")
    let shares = Box<[Double]>([])
    let options = ReadOptions { share in shares.change { $0.append(share) } }
    _ = try await model.classify(long, options: options)
    XCTAssertGreaterThan(shares.now.count, 1)
    XCTAssertEqual(shares.now, shares.now.sorted())

    let (told, tell) = AsyncStream.makeStream(of: Void.self)
    let slow = ReadOptions { _ in
      tell.yield()
      Thread.sleep(forTimeInterval: 0.02)
    }
    let task = Task { try await model.classify(long, options: slow) }
    for await _ in told { break }
    task.cancel()
    do {
      _ = try await task.value
      XCTFail("it succeeded")
    } catch {
      XCTAssertTrue(error is CancellationError, "\(error)")
    }
  }

  func testManyAtOnce() async throws {
    let model = try await open(Files.model("listops"))
    let executor = try ModelExecutor(model, threads: 1)
    let labels = try await withThrowingTaskGroup(of: String.self) { group -> [String] in
      for i in 0..<20 {
        let options = ReadOptions(executor: i % 2 == 0 ? executor : nil)
        group.addTask { try await model.classify("[MIN 4 [MAX 2 8 ] 7 ]", options: options).label }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    XCTAssertEqual(labels, [String](repeating: "4", count: 20))
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Float {
    a.count == b.count ? zip(a, b).map { abs($0 - $1) }.max() ?? 0 : .infinity
  }
}
