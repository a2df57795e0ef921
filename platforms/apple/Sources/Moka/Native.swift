import CMoka
import Dispatch
import Foundation

/// A handle of the C interface, freed with the last reference to this.
///
/// Unchecked: the pointer never changes, and moka.h says what may be called with it from which thread.
/// Models and executors serve any thread; of a session or chat every call but cancel is made by its
/// actor, whose executor is one serial queue.
final class Handle: @unchecked Sendable {
  let pointer: OpaquePointer
  private let free: @Sendable (OpaquePointer?) -> Void
  /// What the library points at for as long as the handle lives.
  private let kept: (any Sendable)?

  init(
    _ free: @escaping @Sendable (OpaquePointer?) -> Void,
    keeping kept: (any Sendable)? = nil,
    _ make: (UnsafeMutablePointer<OpaquePointer?>, UnsafeMutablePointer<moka_error>) -> moka_status
  ) throws {
    var made: OpaquePointer?
    try check { make(&made, $0) }
    guard let made else { throw MokaError(.internalError, "a call succeeded and made nothing") }
    pointer = made
    self.free = free
    self.kept = kept
  }

  deinit { free(pointer) }
}

/// A value that threads share. A lock of the system would need newer ones of Apple's.
final class Locked<Value>: @unchecked Sendable {
  private let lock = NSLock()
  private var value: Value

  init(_ value: Value) { self.value = value }

  func with<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
    lock.lock()
    defer { lock.unlock() }
    return try body(&value)
  }
}

/// The executor of one actor: a serial queue, so that long calls stand in nobody's way. The threads of
/// Swift's own pool, of which there is one per core, are never inside of the library.
final class QueueExecutor: SerialExecutor {
  private let queue: DispatchQueue

  init(_ label: String) { queue = DispatchQueue(label: label, qos: .userInitiated) }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }

  func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
}

/// How a call that runs is cancelled, and how a cancel that came too late is used up, so that it does
/// not end the next call.
struct NativeCancel: Sendable {
  let cancel: @Sendable () -> Void
  let absorb: @Sendable () -> Void
}

/// One call of a session or chat, which any thread may cancel while it runs, and before.
final class Call: Sendable {
  private struct State {
    /// While the call runs.
    var native: NativeCancel?
    var cancelled = false
    /// The library was told.
    var told = false
    /// Text was given out.
    var talked = false
  }
  private let state = Locked(State())
  /// A call that is stopped after it gave out text ends there and keeps it, as turns of chats do.
  private let keepsText: Bool

  init(keepsText: Bool = false) { self.keepsText = keepsText }

  var isCancelled: Bool { state.with { $0.cancelled } }

  /// Ends the call with `MokaError.Code.cancelled`, at its next token or chunk.
  func cancel() {
    state.with { state in
      state.cancelled = true
      Self.tell(&state)
    }
  }

  /// Nobody reads on.
  func stop() {
    state.with { state in
      state.cancelled = true
      if !(keepsText && state.talked) { Self.tell(&state) }
    }
  }

  private static func tell(_ state: inout State) {
    guard let native = state.native, !state.told else { return }
    state.told = true
    native.cancel()
  }

  /// Text is given out; whether the writing goes on. A call that was told to end hears of it by itself.
  func goesOn() -> Bool {
    state.with { state in
      state.talked = true
      return !state.cancelled || state.told || !keepsText
    }
  }

  /// Makes the call, unless it was cancelled before.
  func run(_ native: NativeCancel, _ body: NativeCall) throws {
    try state.with { state in
      guard !state.cancelled else {
        throw MokaError(.cancelled, "cancelled before it began")
      }
      state.native = native
    }
    var error = moka_error()
    let status = body(&error)
    let late = state.with { state in
      state.native = nil
      return state.told && status != wasCancelled
    }
    if late { native.absorb() }
    guard status == succeeded else { throw MokaError(error) }
  }
}

/// A task that was cancelled gets the error that Swift has for it.
func asTaskError(_ error: any Error) -> any Error {
  guard let error = error as? MokaError, error.code == .cancelled, Task.isCancelled else {
    return error
  }
  return CancellationError()
}

/// Whether a task was cancelled, and who is told of progress, for calls without a session.
final class Watch: Sendable {
  private let cancelled = Locked(false)
  private let progress: (@Sendable (Double) -> Void)?

  init(_ progress: (@Sendable (Double) -> Void)?) { self.progress = progress }

  var isCancelled: Bool { cancelled.with { $0 } }
  func cancel() { cancelled.with { $0 = true } }

  var pointer: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }

  func hear(_ share: Double) -> Int32 {
    if isCancelled { return 1 }
    progress?(share)
    return isCancelled ? 1 : 0
  }
}

/// The moka_progress_fn of a `Watch`.
func hearProgress(_ user: UnsafeMutableRawPointer?, _ share: Double) -> Int32 {
  guard let user else { return 0 }
  return Unmanaged<Watch>.fromOpaque(user).takeUnretainedValue().hear(share)
}

/// `work` on a queue, off Swift's own threads. The cancellation of the task reaches it by `watch`.
func onQueue<Value: Sendable>(
  _ queue: DispatchQueue, _ watch: Watch, _ work: @escaping @Sendable () throws -> Value
) async throws -> Value {
  do {
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (done: CheckedContinuation<Value, any Error>) in
        queue.async {
          done.resume(
            with: Result {
              guard !watch.isCancelled else {
                throw MokaError(.cancelled, "cancelled before it began")
              }
              return try withExtendedLifetime(watch, work)
            })
        }
      }
    } onCancel: {
      watch.cancel()
    }
  } catch {
    throw asTaskError(error)
  }
}

/// Bytes that a call fills a buffer with. `guess` is how many there may be: when there are more the call
/// is made twice.
func bytes(
  guess: Int,
  _ call: (UnsafeMutableRawPointer, Int, UnsafeMutablePointer<Int>, UnsafeMutablePointer<moka_error>)
    -> moka_status
) throws -> Data {
  var room = max(guess, 1)
  while true {
    guard let memory = malloc(room) else {
      throw MokaError(.outOfMemory, "no memory for \(room) bytes")
    }
    var needed = 0
    var error = moka_error()
    if call(memory, room, &needed, &error) == succeeded {
      return Data(bytesNoCopy: realloc(memory, max(needed, 1)) ?? memory, count: needed,
        deallocator: .free)
    }
    free(memory)
    guard error.code == moka_status(MOKA_OUT_OF_RANGE), needed > room else {
      throw MokaError(error)
    }
    room = needed
  }
}

/// Numbers that a call fills a buffer with, as many as it says there are.
func numbers<Number>(
  _ zero: Number,
  _ call: (UnsafeMutablePointer<Number>?, Int, UnsafeMutablePointer<Int>,
    UnsafeMutablePointer<moka_error>) -> moka_status
) throws -> [Number] {
  var needed = 0
  try check { call(nil, 0, &needed, $0) }
  guard needed > 0 else { return [] }
  var found = [Number](repeating: zero, count: needed)
  try found.withUnsafeMutableBufferPointer { buffer in
    try check { call(buffer.baseAddress, buffer.count, &needed, $0) }
  }
  return found
}
