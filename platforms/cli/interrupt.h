// Ctrl-C and the other polite signals. The first one asks the verb to stop at the next token, chunk
// or megabyte; the second one ends the process at once.
#ifndef MOKA_PLATFORMS_CLI_INTERRUPT_H_
#define MOKA_PLATFORMS_CLI_INTERRUPT_H_

#include <signal.h>

#include <atomic>

#include "moka/session.h"

namespace moka::cli {

// Catches SIGINT and SIGTERM, unless they are ignored (a background job of a script), and ignores
// SIGPIPE, so that a closed pipe is a write error. Called once, by main().
void install_signal_handlers();

// The signal that asked to stop, 0 if none did. Any thread.
int interrupt_signal();
inline bool interrupted() { return interrupt_signal() != 0; }
// For verbs that go on after an interrupt: none has come, and the next one asks again.
void forget_interrupt();
// Set by the signal, for calls that look at a flag (ReadOptions::cancel).
const std::atomic<bool>* interrupt_flag();

// While it lives, the caught signals wait, and threads that are started never see them. So handlers
// run on the main thread only, and a session cannot end while one is looking at it.
class HoldSignals {
 public:
  HoldSignals();
  ~HoldSignals();
  HoldSignals(const HoldSignals&) = delete;
  HoldSignals& operator=(const HoldSignals&) = delete;

 private:
  sigset_t before_;
};

// While it lives, an interrupt also ends the running call of `session` with kCancelled. There is at
// most one.
class CancelOnInterrupt {
 public:
  explicit CancelOnInterrupt(Session* session);
  ~CancelOnInterrupt();
  CancelOnInterrupt(const CancelOnInterrupt&) = delete;
  CancelOnInterrupt& operator=(const CancelOnInterrupt&) = delete;
};

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_INTERRUPT_H_
