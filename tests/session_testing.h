// What tests of sessions share: models from descriptions, and the bytes that tell two sessions apart.
#ifndef MOKA_TESTS_SESSION_TESTING_H_
#define MOKA_TESTS_SESSION_TESTING_H_

#include <doctest/doctest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "moka/moka.h"
#include "tests/spec_builder.h"

namespace moka::test {

inline void require_ok(const Status& status) { REQUIRE_MESSAGE(status.ok(), status.to_string()); }

// `made` must outlive the model.
inline Model open_spec(const TestModel& made, int threads = 1, uint32_t chunk = 64) {
  OpenOptions options;
  options.executor.threads = threads;
  options.executor.chunk = chunk;
  Result<Model> model = Model::from_spec(made.spec, options);
  require_ok(model.status());
  return std::move(model).value();
}

// Everything that can tell two sessions apart: position, state, cache, logits.
inline std::vector<uint8_t> saved(const Session& session) {
  Result<std::vector<uint8_t>> bytes = session.save();
  require_ok(bytes.status());
  return std::move(bytes).value();
}

}  // namespace moka::test

#endif  // MOKA_TESTS_SESSION_TESTING_H_
