// The limits of OpenOptions: each has an error that names it, and what is just within passes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "moka/moka.h"
#include "runtime/check_limits.h"
#include "tests/cli_model.h"
#include "tests/model_file.h"

namespace moka::test {
namespace {

// Opens with one limit changed.
template <class T>
Status open_with(const ModelBytes& file, T ModelLimits::*member, uint64_t value) {
  OpenOptions options;
  options.executor.threads = 1;
  options.limits.*member = value;
  return Model::open_memory(file.bytes(), options).status();
}

void expect(const Status& status, const std::string& message) {
  CHECK(status.code() == StatusCode::kOutOfRange);
  CHECK(status.message() == message);
}

}  // namespace

TEST_CASE("limits: what a model asks beyond them is refused, and named") {
  const TestModel model = text_model(false);
  const ModelBytes file = written(model.spec);
  const std::string where = "model in memory: has ";

  const uint64_t header = u32_at(file, 0);
  CHECK(open_with(file, &ModelLimits::header_bytes, header).ok());
  expect(open_with(file, &ModelLimits::header_bytes, header - 1),
         where + std::to_string(header) + " bytes in its header, more than the limit of " +
             std::to_string(header - 1) + " (OpenOptions::limits.header_bytes)");

  const uint64_t tensors = model.spec.tensors.size();
  CHECK(open_with(file, &ModelLimits::tensors, tensors).ok());
  expect(open_with(file, &ModelLimits::tensors, tensors - 1),
         where + std::to_string(tensors) + " tensors, more than the limit of " +
             std::to_string(tensors - 1) + " (OpenOptions::limits.tensors)");

  CHECK(open_with(file, &ModelLimits::vocab_size, 260).ok());
  expect(open_with(file, &ModelLimits::vocab_size, 259),
         where +
             "260 tokens in its vocabulary, more than the limit of 259 "
             "(OpenOptions::limits.vocab_size)");
}

TEST_CASE("limits: memory is counted before it is taken") {
  const TestModel model = text_model(false);
  const ModelBytes file = written(model.spec);
  const Status refused = open_with(file, &ModelLimits::memory_bytes, 1);
  CHECK(refused.code() == StatusCode::kOutOfRange);
  const std::string begin = "model in memory: needs ";
  REQUIRE(refused.message().rfind(begin, 0) == 0);
  const uint64_t needed = std::stoull(refused.message().substr(begin.size()));
  CHECK(refused.message() ==
        begin + std::to_string(needed) +
            " bytes of memory for packed weights, one session and the rows of a chunk, more than "
            "the limit of 1 (OpenOptions::limits.memory_bytes)");
  CHECK(open_with(file, &ModelLimits::memory_bytes, needed).ok());
  CHECK(!open_with(file, &ModelLimits::memory_bytes, needed - 1).ok());

  // It is about what is taken: at least the state, and no more than all that opening allocates.
  const Result<Model> opened = Model::open_memory(file.bytes(), {});
  REQUIRE(opened.ok());
  CHECK(needed > opened.value().info().state_bytes);
  uint64_t float_bytes = 0;
  for (const Tensor& tensor : model.spec.tensors) float_bytes += tensor.elements() * sizeof(float);
  CHECK(needed < float_bytes + opened.value().info().state_bytes +
                     2 * opened.value().executor().scratch_bytes());
}

TEST_CASE("limits: of the format, they can be lowered but not raised, but for the header") {
  ModelBytes file = written(make_test_model(small_options()).spec);
  // A prefix beyond the default limit is damage, unless the caller allows so much.
  const uint32_t prefix = (uint32_t{64} << 20) + 1;
  std::memcpy(file.data(), &prefix, sizeof prefix);
  const Status damaged = load_model(file.bytes(), "x.moka").status();
  expect_corrupt(damaged, "expected 8 to 67108864");
  ModelLimits limits;
  limits.header_bytes = uint64_t{1} << 30;
  const Status short_file = load_model(file.bytes(), "x.moka", limits).status();
  expect_corrupt(short_file, "the file was cut short");
  limits.header_bytes = ~uint64_t{0};
  const uint32_t negative = 0x80000000u;
  std::memcpy(file.data(), &negative, sizeof negative);
  expect_corrupt(load_model(file.bytes(), "x.moka", limits).status(), "expected 8 to 2147483647");
}

TEST_CASE("limits: a specification is held to them too") {
  const TestModel model = text_model(false);
  OpenOptions options;
  options.limits.tensors = 3;
  expect(Model::from_spec(model.spec, options).status(),
         "specification: has " + std::to_string(model.spec.tensors.size()) +
             " tensors, more than the limit of 3 (OpenOptions::limits.tensors)");
  options.limits.tensors = 1000;
  options.limits.vocab_size = 100;
  expect(Model::from_spec(model.spec, options).status(),
         "specification: has 260 tokens in its vocabulary, more than the limit of 100 "
         "(OpenOptions::limits.vocab_size)");
}
}  // namespace moka::test
