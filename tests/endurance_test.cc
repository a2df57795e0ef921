// What must hold over very many tokens and over the death of the process: no allocation per token,
// flat memory, and a saved session that continues with the same bytes.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#endif

#include "moka/moka.h"
#include "tests/allocation_counter.h"
#include "tests/spec_builder.h"

namespace moka {
namespace {

Model small_model(test::TestModel* made, DType weights, int threads) {
  test::TestModelOptions options;
  options.weights = weights;
  *made = test::make_test_model(options);
  OpenOptions open;
  open.executor.threads = threads;
  auto model = Model::from_spec(made->spec, open);
  REQUIRE(model.ok());
  return std::move(model).value();
}

Sampler make_sampler(const Model& model) {
  SamplerOptions options;
  options.seed = 11;
  options.top_k = 20;
  options.top_p = 0.95f;
  options.repeat_penalty = 1.1f;
  auto sampler = Sampler::create(options, model.info().vocab_size);
  REQUIRE(sampler.ok());
  return std::move(sampler).value();
}

// Resident pages in bytes; 0 where /proc is not there.
size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * 4096;
}

}  // namespace

TEST_CASE("endurance: no allocation per token") {
  if (!test::counts_allocations()) {
    MESSAGE("skipped: allocations cannot be counted in this build");
    return;
  }
  for (const DType weights : {DType::kF32, DType::kI8}) {
    test::TestModel made;
    const Model model = small_model(&made, weights, 2);
    auto session = model.new_session();
    REQUIRE(session.ok());
    Sampler sampler = make_sampler(model);
    const std::vector<TokenId> prompt = {1, 2, 3, 4, 5, 6, 7};
    REQUIRE(session.value().append(prompt).ok());
    REQUIRE(session.value().step(sampler).ok());
    const uint64_t before = test::allocations();
    bool ok = true;
    for (int i = 0; i < 300; ++i) ok = session.value().step(sampler).ok() && ok;
    for (int i = 0; i < 20; ++i) ok = session.value().append(prompt).ok() && ok;
    CHECK(test::allocations() - before == 0);
    CHECK(ok);
  }
}

TEST_CASE("endurance: resident memory is flat over 100000 tokens") {
  test::TestModel made;
  const Model model = small_model(&made, DType::kI8, 1);
  auto session = model.new_session();
  REQUIRE(session.ok());
  Sampler sampler = make_sampler(model);
  const TokenId first = 1;
  REQUIRE(session.value().append(Span<const TokenId>(&first, 1)).ok());
  size_t early = 0;
  for (int i = 1; i <= 100000; ++i) {
    REQUIRE(session.value().step(sampler).ok());
    if (i == 1000) early = resident_bytes();
  }
  const size_t late = resident_bytes();
  if (early == 0) {
    MESSAGE("skipped: no /proc/self/statm here");
    return;
  }
  INFO("resident after 1000 tokens " << early << ", after 100000 " << late);
  CHECK((late <= early || late - early <= size_t{1} << 20));
  CHECK(session.value().position() == 100001);
}

#if defined(__unix__) || defined(__APPLE__)
TEST_CASE("endurance: save, kill -9, restore writes the same tokens") {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("moka-kill-" + std::to_string(getpid()))).string();
  test::TestModel made;
  const Model model = small_model(&made, DType::kI8, 1);
  const std::vector<TokenId> prompt = {4, 8, 15, 16, 23, 42};

  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {  // reads, saves, is killed in the middle of going on
    auto session = model.new_session();
    Sampler sampler = make_sampler(model);
    bool ok = session.ok() && session.value().append(prompt).ok();
    for (int i = 0; i < 40; ++i) ok = ok && session.value().step(sampler).ok();
    ok = ok && session.value().save_file(path).ok();
    const std::vector<uint8_t> drawn = sampler.save();
    std::ofstream(path + ".sampler", std::ios::binary)
        .write(reinterpret_cast<const char*>(drawn.data()),
               static_cast<std::streamsize>(drawn.size()));
    if (!ok) _exit(1);
    std::ofstream(path + ".ready") << "ready";
    for (;;) {
      if (!session.value().step(sampler).ok()) _exit(1);
      if (!session.value().save_file(path + ".other").ok()) _exit(1);
    }
  }
  for (int i = 0; i < 2000 && !std::filesystem::exists(path + ".ready"); ++i) usleep(5000);
  usleep(20000);
  REQUIRE(kill(child, SIGKILL) == 0);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));

  auto straight = model.new_session(), restored = model.new_session();
  REQUIRE((straight.ok() && restored.ok()));
  Sampler sampler = make_sampler(model);
  REQUIRE(straight.value().append(prompt).ok());
  for (int i = 0; i < 40; ++i) REQUIRE(straight.value().step(sampler).ok());
  const Status status_restored = restored.value().restore_file(path);
  REQUIRE_MESSAGE(status_restored.ok(), status_restored.message());
  CHECK(restored.value().save().value() == straight.value().save().value());

  std::ifstream file(path + ".sampler", std::ios::binary);
  const std::vector<char> raw((std::istreambuf_iterator<char>(file)),
                              std::istreambuf_iterator<char>());
  const std::vector<uint8_t> bytes(raw.begin(), raw.end());
  Sampler resumed = make_sampler(model);
  REQUIRE(resumed.restore(bytes).ok());
  for (int i = 0; i < 60; ++i) {
    CHECK(straight.value().step(sampler).value() == restored.value().step(resumed).value());
  }
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::temp_directory_path())) {
    if (entry.path().string().rfind(path, 0) == 0) std::filesystem::remove(entry.path());
  }
}
#endif

}  // namespace moka
