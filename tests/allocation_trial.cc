#include "tests/allocation_trial.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/allocation_counter.h"

namespace moka::test {

bool campaign() { return std::getenv("MOKA_CAMPAIGN") != nullptr; }

bool can_fail_allocations() {
  if (!counts_allocations()) MESSAGE("skipped: allocations cannot be made to fail here");
  return counts_allocations();
}

void run_trial(const Trial& trial) {
  for (int i = 0; i < 2; ++i) {  // what is made once for the process is made here
    trial.prepare();
    const Status status = trial.call();
    REQUIRE_MESSAGE(status.ok(), trial.name, ": ", status.to_string());
    trial.check(true);
    trial.drop();
  }
  for (const bool all_after : {false, true}) {
    uint64_t refused = 0, survived = 0, n = 1;
    for (;; n += campaign() ? 1 : 1 + n / 12) {
      INFO(trial.name << ": allocation " << n
                      << std::string(all_after ? " and all after it" : " alone"));
      const int64_t before = live_allocations();
      trial.prepare();
      StatusCode code = StatusCode::kOk;
      fail_allocations(n, all_after);
      {
        const Status status = trial.call();
        code = status.code();
      }
      const uint64_t failed = stop_failing();
      const bool ok = code == StatusCode::kOk;
      if (!ok) CHECK(std::string(status_code_name(code)) == "out_of_memory");
      if (failed == 0) CHECK(ok);
      trial.check(ok);
      trial.drop();
      const int64_t after = live_allocations();
      CHECK(after == before);
      (ok ? survived : refused) += failed > 0 ? 1 : 0;
      if (failed == 0) break;
    }
    if (campaign()) {
      std::printf("%-34s %-9s %7llu failures: %llu out_of_memory, %llu got on without\n",
                  trial.name.c_str(), all_after ? "all after" : "alone",
                  static_cast<unsigned long long>(refused + survived),
                  static_cast<unsigned long long>(refused),
                  static_cast<unsigned long long>(survived));
    }
  }
}

}  // namespace moka::test
