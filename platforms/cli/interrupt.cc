#include "platforms/cli/interrupt.h"

#include <signal.h>

#include <atomic>

namespace moka::cli {
namespace {

// Signal handlers have no other way to reach the verb; all are lock-free.
std::atomic<int> caught_signal{0};
std::atomic<bool> stop{false};
std::atomic<Session*> running_session{nullptr};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free &&
              std::atomic<Session*>::is_always_lock_free);

void on_signal(int number) {
  caught_signal.store(number);
  stop.store(true);
  Session* session = running_session.load();
  if (session != nullptr) session->cancel();
}

void catch_signal(int number) {
  struct sigaction old = {};
  if (sigaction(number, nullptr, &old) != 0 || old.sa_handler == SIG_IGN) return;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  // No SA_RESTART: a read() from the terminal must end. SA_RESETHAND: the second one kills.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(number, &action, nullptr);
}

}  // namespace

void install_signal_handlers() {
  signal(SIGPIPE, SIG_IGN);
  catch_signal(SIGINT);
  catch_signal(SIGTERM);
}

int interrupt_signal() { return caught_signal.load(); }

void forget_interrupt() {
  caught_signal.store(0);
  stop.store(false);
  catch_signal(SIGINT);  // the one that came is no longer caught
  catch_signal(SIGTERM);
}

const std::atomic<bool>* interrupt_flag() { return &stop; }

HoldSignals::HoldSignals() {
  sigset_t held;
  sigemptyset(&held);
  sigaddset(&held, SIGINT);
  sigaddset(&held, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &held, &before_);
}

HoldSignals::~HoldSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

CancelOnInterrupt::CancelOnInterrupt(Session* session) {
  running_session.store(session);
  // A signal between the last look at the flag and the line above has cancelled nothing.
  if (interrupted()) session->cancel();
}

CancelOnInterrupt::~CancelOnInterrupt() { running_session.store(nullptr); }

}  // namespace moka::cli
