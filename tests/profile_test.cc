// The profiler: bounds, order, what it drops; and what a Forward records with it.
#include "runtime/profile.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "runtime/forward.h"
#include "runtime/state.h"
#include "tests/allocation_counter.h"
#include "tests/kernel_testing.h"
#include "tests/spec_builder.h"

namespace moka::test {
namespace {

ProfileSpan span_at(uint64_t start, uint32_t thread = 0, bool part = false) {
  ProfileSpan span;
  span.name = part ? "part" : "operator";
  span.thread = thread;
  span.part = part;
  span.start = start;
  span.duration = 5;
  return span;
}

std::unique_ptr<Profiler> profiler_of(size_t threads, size_t spans) {
  auto made = Profiler::create(threads, spans);
  REQUIRE(made.ok());
  return std::move(made).value();
}

// A model, a state, and a Forward that reads tokens into it.
struct Runner {
  Runner(const TestModelOptions& options, int threads, size_t rows)
      : model(make_test_model(options)) {
    auto packed = PackedWeights::create();
    REQUIRE(packed.ok());
    weights = std::move(packed).value();
    plan = make_plan(model.spec, *weights);
    auto kernels = select_kernels(nullptr);
    REQUIRE(kernels.ok());
    auto made = Forward::create(plan, *kernels.value(), *weights, threads, rows);
    REQUIRE(made.ok());
    forward = std::move(made).value();
    REQUIRE(state.allocate(plan.state_floats));
    reset_state(plan, state.data());
    tokens = some_tokens(rows, options.vocab_size);
  }
  // Reads `count` more tokens and returns the last row of output.
  std::vector<float> read(size_t count) {
    Sequence sequence;
    sequence.state = state.data();
    sequence.position = position;
    sequence.tokens = tokens.data();
    sequence.count = count;
    const Span<Sequence> one(&sequence, 1);
    REQUIRE(forward->read(one).ok());
    position += count;
    std::vector<float> out(plan.outputs);
    REQUIRE(forward->logits(count - 1, 1, out.data()).ok());
    return out;
  }

  TestModel model;
  std::unique_ptr<PackedWeights> weights;
  Plan plan;
  std::unique_ptr<Forward> forward;
  AlignedBuffer<float> state;
  std::vector<TokenId> tokens;
  uint64_t position = 0;
};

// A model wide enough for its heads and rows to be spread over threads.
TestModelOptions wide_model() {
  TestModelOptions options;
  options.width = 128, options.heads = 4, options.latents = 128, options.hidden = 192;
  options.window = 32;
  return options;
}

uint64_t end_of(const ProfileSpan& span) { return span.start + span.duration; }

}  // namespace

TEST_CASE("profile: the number of spans is bounded") {
  for (const size_t spans : {size_t{0}, Profiler::kMaxSpans + 1}) {
    const auto made = Profiler::create(2, spans);
    REQUIRE(!made.ok());
    CHECK(made.status().code() == StatusCode::kInvalidArgument);
    CHECK(made.status().message() ==
          "a profile of " + std::to_string(spans) + " spans per thread; must be 1 to 16777216");
  }
  CHECK(profiler_of(3, 1)->threads() == 3);
}

TEST_CASE("profile: spans come by start, an operator before its parts, and once") {
  const auto profiler = profiler_of(2, 8);
  profiler->add(span_at(30));
  profiler->add(span_at(10, 1, true));
  profiler->add(span_at(20, 0, true));
  profiler->add(span_at(10));
  const Profile profile = profiler->take();
  REQUIRE(profile.spans.size() == 4);
  const std::vector<uint64_t> starts = {10, 10, 20, 30};
  for (size_t i = 0; i < starts.size(); ++i) CHECK(profile.spans[i].start == starts[i]);
  CHECK(!profile.spans[0].part);
  CHECK(profile.spans[1].part);
  CHECK(profile.spans[1].thread == 1);
  CHECK(profile.dropped == 0);
  CHECK(profiler->take().spans.empty());
}

TEST_CASE("profile: what a thread has no room for is counted, and the earliest spans stay") {
  const auto profiler = profiler_of(2, 3);
  for (uint64_t i = 0; i < 5; ++i) profiler->add(span_at(i));
  profiler->add(span_at(9, 1));
  Profile profile = profiler->take();
  REQUIRE(profile.spans.size() == 4);
  CHECK(profile.dropped == 2);
  CHECK(profile.spans[2].start == 2);
  CHECK(profile.spans[3].thread == 1);
  profiler->add(span_at(7));
  profile = profiler->take();
  CHECK(profile.spans.size() == 1);
  CHECK(profile.dropped == 0);
}

TEST_CASE("profile: a scope records its own time; without a profiler nothing") {
  const auto profiler = profiler_of(2, 4);
  const uint64_t before = Profiler::now();
  {
    const ProfileScope scope(profiler.get(), "outer", 3, 17);
    const ProfilePart part(profiler.get(), "inner", 3, 17, 1);
    const ProfileScope nothing(nullptr, "nothing");
  }
  const uint64_t after = Profiler::now();
  const Profile profile = profiler->take();
  REQUIRE(profile.spans.size() == 2);
  const ProfileSpan &outer = profile.spans[0], &inner = profile.spans[1];
  CHECK(std::string(outer.name) == "outer");
  CHECK(std::string(inner.name) == "inner");
  CHECK(outer.block == 3);
  CHECK(outer.rows == 17);
  CHECK(!outer.part);
  CHECK(inner.part);
  CHECK(inner.thread == 1);
  CHECK(before <= outer.start);
  CHECK(outer.start <= inner.start);
  CHECK(end_of(inner) <= end_of(outer));
  CHECK(end_of(outer) <= after);
}

TEST_CASE("profile: operators of a model follow each other, parts lie inside them") {
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    Runner runner(wide_model(), threads, 64);
    const auto profiler = profiler_of(static_cast<size_t>(threads), 10000);
    runner.forward->set_profiler(profiler.get());
    const uint64_t before = Profiler::now();
    runner.read(64);
    runner.read(1);
    const uint64_t after = Profiler::now();
    const Profile profile = profiler->take();
    CHECK(profile.dropped == 0);

    std::map<std::string, size_t> operators, parts;
    ProfileSpan last;
    last.start = before;
    uint64_t total = 0;
    for (const ProfileSpan& span : profile.spans) {
      ++(span.part ? parts : operators)[span.name];
      CHECK(span.thread < static_cast<uint32_t>(threads));
      CHECK(span.block < 2);
      CHECK((span.rows == 64 || span.rows == 1 || span.name == std::string("positions")));
      if (span.part) {
        CHECK(std::string(last.name) == "mixer");
        CHECK(span.block == last.block);
        CHECK(span.start >= last.start);
        CHECK(end_of(span) <= end_of(last));
        continue;
      }
      CHECK(span.thread == 0);
      CHECK(span.start >= end_of(last));
      total += span.duration;
      last = span;
    }
    CHECK(total <= after - before);
    // Two reads of two layers; one row of logits after each.
    const std::map<std::string, size_t> want = {
        {"embed", 2},   {"positions", 2},  {"norm", 6}, {"qkv", 4},    {"mixer", 4},   {"out", 4},
        {"gate_up", 4}, {"activation", 4}, {"down", 4}, {"logits", 2}, {"add_norm", 8}};
    CHECK(operators == want);
    CHECK(parts.size() == 2);
    CHECK(parts["mixer.latent"] >= 4);
    CHECK(parts["mixer.window"] == parts["mixer.latent"]);
  }
}

TEST_CASE("profile: recording changes no bit and allocates nothing") {
  const auto profiler = profiler_of(1, 10000);
  Runner plain(wide_model(), 1, 48), profiled(wide_model(), 1, 48);
  profiled.forward->set_profiler(profiler.get());
  for (const size_t count : {size_t{48}, size_t{1}, size_t{7}}) {
    const std::vector<float> want = plain.read(count), got = profiled.read(count);
    CHECK(same_bits(got.data(), want.data(), want.size()));
  }
  CHECK(same_bits(profiled.state.data(), plain.state.data(), plain.state.size()));
  CHECK(!profiler->take().spans.empty());
  profiled.forward->set_profiler(nullptr);
  profiled.read(3);
  CHECK(profiler->take().spans.empty());

  if (!counts_allocations()) {
    MESSAGE("skipped: allocations cannot be counted in this build");
    return;
  }
  profiled.forward->set_profiler(profiler.get());
  Sequence sequence;
  sequence.state = profiled.state.data();
  sequence.position = profiled.position;
  sequence.tokens = profiled.tokens.data();
  sequence.count = 20;
  const Span<Sequence> one(&sequence, 1);
  const uint64_t before = allocations();
  const Status status = profiled.forward->read(one);
  CHECK(allocations() == before);
  CHECK(status.ok());
}

}  // namespace moka::test
