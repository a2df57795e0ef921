// Memory that runs out at any allocation of a call: the call says kOutOfMemory, or gets on without and
// gives what it always gives; nothing is lost, nothing is changed, and the same call works afterwards.
//
// Each call runs again and again, with its first allocation failing, its second, its third, and so on
// until it needs no more; once with one failure, once with nothing left from there on. The suite skips
// more and more of them as the counts grow. MOKA_CAMPAIGN=1 skips none and prints what was done.
#ifndef MOKA_TESTS_ALLOCATION_TRIAL_H_
#define MOKA_TESTS_ALLOCATION_TRIAL_H_

#include <functional>
#include <string>

#include "moka/status.h"

namespace moka::test {

// A call under test. Only `call` runs short of memory, so it must take none of its own in ways that can
// throw; `check` is told whether it went well. What prepare() and call() leave behind goes with drop(),
// and then as much memory is in use as before.
struct Trial {
  std::string name;
  std::function<Status()> call;
  std::function<void(bool ok)> check = [](bool) {};
  std::function<void()> prepare = [] {};
  std::function<void()> drop = [] {};
};

void run_trial(const Trial& trial);

bool campaign();
// False, with a message, where allocations cannot be made to fail.
bool can_fail_allocations();

}  // namespace moka::test

#endif  // MOKA_TESTS_ALLOCATION_TRIAL_H_
