// Very many sessions of the demo model at once, as a server has them: what they cost, and that none
// sees another.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "tests/allocation_counter.h"
#include "tests/kernel_testing.h"
#include "tests/spec_builder.h"

namespace moka {
namespace {

const char kModel[] = MOKA_SOURCE_DIR "/models/stories.moka";
constexpr size_t kPageBytes = 4096;

// Bytes of this process in memory, or free on this machine; 0 where /proc does not tell.
uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * kPageBytes;
}
uint64_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string key; file >> key;) {
    uint64_t kib = 0;
    if (key == "MemAvailable:" && file >> kib) return kib * 1024;
  }
  return 0;
}

std::vector<TokenId> random_tokens(test::Random* random, size_t count) {
  std::vector<TokenId> ids(count);
  for (TokenId& id : ids) id = static_cast<TokenId>(1 + random->below(8191));
  return ids;
}

}  // namespace

TEST_CASE("many sessions: 2,000 of the demo model in 4 GiB, each with the bytes of a fresh run") {
  constexpr uint64_t kMost = uint64_t{4} << 30;
  if (!std::filesystem::exists(kModel)) {
    MESSAGE("skipped: models/stories.moka is not there");
    return;
  }
  // Sanitizers keep memory of their own beside every block, and take their time.
  const bool plain = test::counts_allocations();
  const size_t count = plain ? 2000 : 50;
  if (plain && available_bytes() < kMost + (uint64_t{1} << 30)) {
    MESSAGE("skipped: 2,000 sessions want 5 GiB free, and /proc/meminfo tells of "
            << available_bytes() << " bytes");
    return;
  }
  OpenOptions options;
  options.executor.threads = 2;
  const Result<Model> opened = Model::open(kModel, options);
  REQUIRE(opened.ok());
  const Model& model = opened.value();
  REQUIRE(model.info().vocab_size == 8192);

  test::Random random(20);
  const std::vector<TokenId> prompt = random_tokens(&random, 40);
  Result<Session> first = model.new_session();
  REQUIRE(first.ok());
  REQUIRE(first.value().append(prompt).ok());

  std::vector<Session> sessions;
  std::vector<std::vector<TokenId>> read(count);  // behind the prompt
  for (size_t i = 0; i < count; ++i) {
    Result<Session> fork = first.value().fork();
    REQUIRE(fork.ok());
    sessions.push_back(std::move(fork).value());
  }
  // Rounds of 16 sessions drawn at random, one token each; at last all of them once more.
  std::vector<size_t> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = i;
  const auto advance = [&](size_t begin, size_t end) {
    std::vector<SessionSteps> batch;
    for (size_t i = begin; i < end; ++i) {
      std::vector<TokenId>& tokens = read[order[i]];
      tokens.push_back(random_tokens(&random, 1)[0]);
      batch.push_back({&sessions[order[i]], Span<const TokenId>(&tokens.back(), 1), {}});
    }
    REQUIRE(model.executor().append(batch).ok());
  };
  for (size_t round = 0; round < count / 8; ++round) {
    for (size_t i = 0; i < 16; ++i) std::swap(order[i], order[i + random.below(count - i)]);
    advance(0, 16);
  }
  for (size_t i = 0; i < count; i += 16) advance(i, std::min(i + 16, count));

  const uint64_t resident = resident_bytes();
  INFO("resident with " << count << " sessions: " << resident);
  if (plain && resident != 0) {
    CHECK(resident < kMost);
    CHECK(resident > uint64_t{1} << 31);  // they are all there
  }
  for (size_t i = 0; i < count; i += count / 25) {
    INFO("session " << i);
    Result<Session> fresh = model.new_session();
    REQUIRE(fresh.ok());
    REQUIRE(fresh.value().append(prompt).ok());
    for (const TokenId& token : read[i]) {
      REQUIRE(fresh.value().append(Span<const TokenId>(&token, 1)).ok());
    }
    CHECK(fresh.value().position() == sessions[i].position());
    CHECK(fresh.value().save().value() == sessions[i].save().value());
  }
}

TEST_CASE("many sessions: a copy holds what its original does, wherever both were before") {
  test::TestModelOptions options;
  options.weights = DType::kI8;
  const test::TestModel made = test::make_test_model(options);
  const Result<Model> model = Model::from_spec(made.spec, {});
  REQUIRE(model.ok());
  test::Random random(21);
  const auto session_at = [&](uint64_t position) {
    Result<Session> session = model.value().new_session();
    REQUIRE(session.ok());
    std::vector<TokenId> ids(static_cast<size_t>(position));
    for (TokenId& id : ids)
      id = static_cast<TokenId>(random.below(model.value().info().vocab_size));
    REQUIRE(session.value().append(ids).ok());
    return std::move(session).value();
  };
  // Around the end of the window, and of what the archive begins with.
  const std::vector<uint64_t> positions = {0, 1, 5, 100, 1023, 1024, 1100, 2049};
  for (const uint64_t from : positions) {
    const Session original = session_at(from);
    const std::vector<uint8_t> bytes = original.save().value();
    for (const uint64_t before : positions) {
      INFO("a copy of a session at " << from << " over one at " << before);
      Session copy = session_at(before);
      REQUIRE(copy.copy_from(original).ok());
      CHECK(copy.save().value() == bytes);
      // What they go on to: nothing was left behind that the saved form does not show.
      Session fork = original.fork().value();
      const std::vector<TokenId> more(1300, 3);
      REQUIRE(copy.append(more).ok());
      REQUIRE(fork.append(more).ok());
      CHECK(copy.save().value() == fork.save().value());
    }
  }
}

}  // namespace moka
