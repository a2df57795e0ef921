// One session for a very long time: does memory stay flat, speed stay what it was, the state finite?
//
//   moka_soak MODEL TOKENS [read]    a model file; "tiny" is a small random one
//
// The session generates TOKENS tokens, or with `read` reads so many that another sampler drew, in
// chunks. Ten times on the way, and at 2^24, it prints tokens, tokens per second since the last line,
// resident memory and the largest score, and the session is saved and restored, which refuses numbers
// that are not finite. Exit status 1: something failed, a score was not finite, or memory grew by more
// than 1 MiB after the first tenth.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "moka/moka.h"
#include "tests/spec_builder.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kFloatEnd = uint64_t{1} << 24;  // integers above it have no float of their own
constexpr uint64_t kGrowth = uint64_t{1} << 20;

int fail(const std::string& what) {
  std::fprintf(stderr, "moka_soak: %s\n", what.c_str());
  return 1;
}

uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * 4096;
}

moka::Result<moka::Model> open(const std::string& name, moka::test::TestModel* tiny) {
  moka::OpenOptions options;
  options.executor.threads = 1;
  if (name != "tiny") return moka::Model::open(name, options);
  *tiny = moka::test::make_test_model({});
  return moka::Model::from_spec(tiny->spec, options);
}

// The largest score; NaN if one is not finite.
float largest(moka::Span<const float> row) {
  float most = -INFINITY;
  for (const float score : row) {
    if (!std::isfinite(score)) return NAN;
    most = std::max(most, score);
  }
  return most;
}

class Soak {
 public:
  Soak(moka::Session session, moka::Sampler sampler)
      : session_(std::move(session)), sampler_(std::move(sampler)) {}

  moka::Status run(uint64_t tokens, bool read) {
    MOKA_RETURN_IF_ERROR(begin());
    std::vector<uint64_t> stops;
    for (uint64_t i = 1; i <= 10; ++i) stops.push_back(tokens / 10 * i);
    if (tokens > kFloatEnd) stops.push_back(kFloatEnd);
    std::sort(stops.begin(), stops.end());
    std::printf("%12s %12s %14s %10s\n", "tokens", "tokens/s", "resident bytes", "top score");
    for (const uint64_t stop : stops) {
      const Clock::time_point began = Clock::now();
      const uint64_t from = session_.position();
      while (session_.position() < stop) MOKA_RETURN_IF_ERROR(move(read, stop));
      const std::chrono::duration<double> seconds = Clock::now() - began;
      MOKA_RETURN_IF_ERROR(look(static_cast<double>(session_.position() - from) / seconds.count()));
    }
    return moka::Status();
  }

 private:
  moka::Status begin() {
    const moka::TokenId first = 1;
    return session_.append(moka::Span<const moka::TokenId>(&first, 1));
  }

  moka::Status move(bool read, uint64_t stop) {
    if (!read) return session_.step(sampler_).status();
    ids_.clear();  // drawn from the last output, all the same for a chunk
    while (ids_.size() < 128 && session_.position() + ids_.size() < stop) {
      MOKA_ASSIGN_OR_RETURN(const moka::TokenId id, sampler_.sample(session_.logits()));
      ids_.push_back(id);
    }
    return session_.append(ids_);
  }

  moka::Status look(double speed) {
    const float top = largest(session_.logits());
    const uint64_t resident = resident_bytes();
    std::printf("%12llu %12.0f %14llu %10.4f\n",
                static_cast<unsigned long long>(session_.position()), speed,
                static_cast<unsigned long long>(resident), static_cast<double>(top));
    std::fflush(stdout);
    if (std::isnan(top)) return moka::Status(moka::StatusCode::kInternal, "a score is not finite");
    MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, session_.save());
    MOKA_RETURN_IF_ERROR(session_.restore(bytes));
    MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> again, session_.save());
    if (bytes != again) return moka::Status(moka::StatusCode::kInternal, "restored, it differs");
    if (first_ == 0) first_ = resident_bytes();  // with what saving needed
    if (resident <= first_ + kGrowth) return moka::Status();
    return moka::Status(moka::StatusCode::kInternal,
                        "memory grew by " + std::to_string(resident - first_) + " bytes");
  }

  moka::Session session_;
  moka::Sampler sampler_;
  std::vector<moka::TokenId> ids_;
  uint64_t first_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const uint64_t tokens = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  const bool read = argc > 3 && std::strcmp(argv[3], "read") == 0;
  if (tokens < 1000 || argc > 4 || (argc == 4 && !read)) {
    std::fprintf(stderr, "usage: moka_soak MODEL|tiny TOKENS [read], at least 1000 tokens\n");
    return 2;
  }
  moka::test::TestModel tiny;
  const auto model = open(argv[1], &tiny);
  if (!model.ok()) return fail(model.status().to_string());
  moka::SamplerOptions options;
  options.seed = 1;
  auto sampler = moka::Sampler::create(options, model.value().info().outputs);
  if (!sampler.ok()) return fail(sampler.status().to_string());
  auto session = model.value().new_session();
  if (!session.ok()) return fail(session.status().to_string());
  Soak soak(std::move(session).value(), std::move(sampler).value());
  const moka::Status status = soak.run(tokens, read);
  return status.ok() ? 0 : fail(status.to_string());
}
