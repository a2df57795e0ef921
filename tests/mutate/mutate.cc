// Damages model files and saved sessions in every systematic and many random ways, and uses what is
// left: each must be refused with a typed error or be usable. Built with sanitizers it is the campaign
// of docs/reliability.md.
//
//   moka_mutate [--count N] [--seed N]
//
// N (100000) of each kind, model files and sessions. Ends with 1 when a call took over a second of CPU time or an
// allocation was above the limit that OpenOptions declares; sanitizers end it for anything worse.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "converter/writer.h"
#include "moka/moka.h"
#include "runtime/checksum.h"
#include "runtime/loader.h"
#include "tests/kernel_testing.h"
#include "tests/mutate/allocation_limit.h"
#include "tests/spec_builder.h"

namespace moka::mutate {
namespace {

using test::Random;
using Bytes = std::vector<uint8_t>;
constexpr uint64_t kMemoryLimit = uint64_t{16} << 20;  // what the models are allowed
constexpr double kMaxSeconds = 1.0;

void seal(Bytes* bytes, size_t at) {
  if (at + 8 > bytes->size()) return;
  const uint64_t checksum = xxh3_64(bytes->data(), at);
  std::memcpy(bytes->data() + at, &checksum, sizeof checksum);
}

// What became of the inputs of one kind.
struct Tally {
  std::map<std::string, uint64_t> outcomes;
  uint64_t inputs = 0, slow = 0;
  double longest = 0;
  size_t largest = 0;
  std::string slowest;
};

// Runs one input. `use` gives the outcome's name.
void measure(Tally* tally, const std::string& how, const std::function<std::string()>& use) {
  set_allocation_limit(kMemoryLimit);
  const std::clock_t start = std::clock();  // of this process: the machine may be busy
  ++tally->outcomes[use()];
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  if (allocations_above_limit() > 0) {
    ++tally->outcomes["ALLOCATION ABOVE THE LIMIT"];
    std::printf("allocation of %zu bytes: %s\n", largest_allocation(), how.c_str());
  }
  tally->largest = std::max(tally->largest, largest_allocation());
  ++tally->inputs;
  if (seconds > kMaxSeconds) ++tally->slow;
  if (seconds > tally->longest) tally->longest = seconds, tally->slowest = how;
}

bool report(const char* kind, const Tally& tally) {
  std::printf(
      "%s: %llu inputs, longest %.3f s (%s), largest allocation %zu bytes of %llu allowed\n", kind,
      static_cast<unsigned long long>(tally.inputs), tally.longest, tally.slowest.c_str(),
      tally.largest, static_cast<unsigned long long>(kMemoryLimit));
  for (const auto& [name, count] : tally.outcomes) {
    std::printf("  %-28s %9llu\n", name.c_str(), static_cast<unsigned long long>(count));
  }
  return tally.slow == 0 && tally.largest <= kMemoryLimit;
}

// ---- damage ------------------------------------------------------------------------------------

// One to eight changes: bytes, bits, words, pieces moved, cut out or put in.
void damage(Random* random, Bytes* bytes, size_t within) {
  for (size_t changes = 1 + random->below(8); changes-- > 0 && bytes->size() > 16;) {
    const size_t end = std::min(within, bytes->size() - 8), at = random->below(end);
    static constexpr std::array<uint32_t, 8> kWords = {
        0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffc, 0x00010000, 64};
    switch (random->below(7)) {
      case 0: (*bytes)[at] = static_cast<uint8_t>(random->bits()); break;
      case 1: (*bytes)[at] ^= static_cast<uint8_t>(1u << random->below(8)); break;
      case 2: std::memcpy(bytes->data() + at / 4 * 4, &kWords[random->below(8)], 4); break;
      case 3: {
        const uint64_t wide = random->below(2) == 0 ? ~uint64_t{0} - random->below(200)
                                                    : uint64_t{1} << random->below(64);
        std::memcpy(bytes->data() + at, &wide, sizeof wide);
        break;
      }
      case 4: {  // a piece over another
        const size_t n = 1 + random->below(64), from = random->below(end);
        const size_t most = bytes->size() - std::max(at, from);
        std::memmove(bytes->data() + at, bytes->data() + from, std::min(n, most));
        break;
      }
      case 5: {
        const size_t n = std::min<size_t>(1 + random->below(16), bytes->size() - at);
        bytes->erase(bytes->begin() + static_cast<std::ptrdiff_t>(at),
                     bytes->begin() + static_cast<std::ptrdiff_t>(at + n));
        break;
      }
      default:
        bytes->insert(bytes->begin() + static_cast<std::ptrdiff_t>(at), 1 + random->below(16),
                      static_cast<uint8_t>(random->bits()));
    }
  }
}

// Calls each(bytes, how) with: every byte before `head` in six ways, every truncation (of long files,
// all near the head and 2000 of the rest), then random damage until `count` are done. Half of the
// random ones are as they are, half have their checksum, behind `sealed` bytes, made right again.
void damage_all(const Bytes& good, size_t head, const std::function<void(Bytes*)>& reseal,
                uint64_t count, uint64_t seed,
                const std::function<void(const Bytes&, const std::string&)>& each) {
  static constexpr std::array<int, 6> kValues = {0x00, 0xff, 0x7f, -1, -2, -3};
  uint64_t done = 0;
  for (size_t at = 0; at < head && done < count; ++at) {
    for (const int value : kValues) {
      Bytes bytes = good;
      uint8_t& byte = bytes[at];
      byte = static_cast<uint8_t>(value >= 0    ? value
                                  : value == -1 ? byte + 1
                                  : value == -2 ? byte - 1
                                                : byte ^ 0x80);
      if (at % 8 != 0) reseal(&bytes);
      each(bytes, "byte " + std::to_string(at) + " in way " + std::to_string(value));
      ++done;
    }
  }
  const size_t stride = std::max<size_t>(1, (good.size() - head) / 2000);
  for (size_t size = 0; size < good.size() && done < count; size += size < head ? 1 : stride) {
    each(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)),
         "cut to " + std::to_string(size));
    ++done;
  }
  for (uint64_t i = 0; done < count; ++i, ++done) {
    Random random(seed * 1000003 + i);
    Bytes bytes = good;
    damage(&random, &bytes, random.below(4) == 0 ? bytes.size() : head);
    if (i % 2 == 0) reseal(&bytes);
    each(bytes, "random " + std::to_string(i));
  }
}

// ---- model files -------------------------------------------------------------------------------

std::vector<test::TestModel> models() {
  std::vector<test::TestModel> all;
  test::TestModelOptions options;
  options.layers = 1, options.width = 8, options.heads = 2, options.latents = 4;
  options.hidden = 8, options.vocab_size = 260, options.bytes_tokenizer = true;
  all.push_back(test::make_test_model(options));
  options.weights = DType::kI8, options.tiles = true, options.front = FrontKind::kConvRgLru;
  options.mixer = test::TestMixer::kLatte, options.vapor = true;
  all.push_back(test::make_test_model(options));
  options = {};
  options.layers = 2, options.width = 8, options.heads = 2, options.hidden = 8;
  options.vocab_size = 30, options.weights = DType::kF16, options.tied = true;
  options.mixer = test::TestMixer::kWindow, options.positions = PositionKind::kLearned;
  all.push_back(test::make_test_model(options));
  all.push_back(test::make_format_model(0));
  all.push_back(test::make_format_model(3));
  return all;
}

std::string use_model(const Bytes& file) {
  const ModelBytes aligned(Span<const uint8_t>(file.data(), file.size()));
  OpenOptions options;
  options.executor.threads = 1;
  options.executor.chunk = 16;
  options.limits.memory_bytes = kMemoryLimit;
  const Result<Model> model = Model::open_memory(aligned.bytes(), options);
  if (!model.ok()) return status_code_name(model.status().code());
  if (!model.value().info().causal || model.value().info().reads_memory) return "opened";
  Result<Session> session = model.value().new_session();
  if (!session.ok()) return "opened, no session";
  const ModelInfo& info = model.value().info();
  if (info.input != InputKind::kTokens) return "opened, session";
  const std::vector<TokenId> ids = test::some_tokens(20, info.vocab_size);
  if (!session.value().append(ids).ok()) return "opened, refused tokens";
  if (model.value().has_tokenizer()) {
    std::vector<TokenId> text;
    (void)model.value().tokenizer().encode("some text", &text).ok();
  }
  return session.value().save().ok() ? "opened, read, saved" : "opened, read";
}

Tally mutate_models(uint64_t count, uint64_t seed) {
  Tally tally;
  const std::vector<test::TestModel> all = models();
  for (size_t which = 0; which < all.size(); ++which) {
    const Result<ModelBytes> written = write_model_to_memory(all[which].spec);
    if (!written.ok()) std::abort();
    const Bytes good(written.value().bytes().begin(), written.value().bytes().end());
    uint32_t prefix = 0;
    std::memcpy(&prefix, good.data(), sizeof prefix);
    const size_t head = size_t{4} + prefix;
    const std::string name = "model " + std::to_string(which) + ", ";
    damage_all(
        good, head, [&](Bytes* bytes) { seal(bytes, head); },
        count / all.size() + (which < count % all.size() ? 1 : 0), seed + which,
        [&](const Bytes& bytes, const std::string& how) {
          measure(&tally, name + how, [&] { return use_model(bytes); });
        });
  }
  return tally;
}

// ---- saved sessions ----------------------------------------------------------------------------

std::string use_session(const Model& model, const Bytes& before, const Bytes& bytes) {
  Result<Session> made = model.new_session();
  if (!made.ok() || !made.value().restore(before).ok()) std::abort();
  Session& session = made.value();
  const Status status = session.restore(bytes);
  if (!status.ok()) {
    if (session.save().value() != before) std::abort();
    return status_code_name(status.code());
  }
  const std::vector<TokenId> ids = test::some_tokens(6, model.info().vocab_size);
  return session.append(ids).ok() ? "restored, read on" : "restored, refused tokens";
}

Tally mutate_sessions(uint64_t count, uint64_t seed) {
  Tally tally;
  const std::vector<test::TestModel> all = models();
  const size_t kRunnable = 3;  // the others are of parts that no build runs yet
  for (size_t which = 0; which < kRunnable; ++which) {
    OpenOptions options;
    options.executor.threads = 1;
    const Result<Model> model = Model::from_spec(all[which].spec, options);
    if (!model.ok()) std::abort();
    const auto saved = [&](size_t tokens) {
      Result<Session> session = model.value().new_session();
      const std::vector<TokenId> ids = test::some_tokens(tokens, model.value().info().vocab_size);
      if (!session.ok() || !session.value().append(ids).ok()) std::abort();
      return session.value().save().value();
    };
    const Bytes good = saved(9), before = saved(2);
    const auto reseal = [](Bytes* bytes) {
      if (bytes->size() >= 8) seal(bytes, bytes->size() - 8);
    };
    damage_all(good, std::min<size_t>(good.size(), 512), reseal,
               count / kRunnable + (which < count % kRunnable ? 1 : 0), seed + which,
               [&](const Bytes& bytes, const std::string& how) {
                 measure(&tally, "session " + std::to_string(which) + ", " + how,
                         [&] { return use_session(model.value(), before, bytes); });
               });
  }
  return tally;
}

int run(int argc, char** argv) {
  uint64_t count = 100000, seed = 1;
  for (int i = 1; i < argc; ++i) {
    const bool has_value = i + 1 < argc;
    if (has_value && std::strcmp(argv[i], "--count") == 0) {
      count = std::strtoull(argv[++i], nullptr, 10);
    } else if (has_value && std::strcmp(argv[i], "--seed") == 0) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fprintf(stderr, "usage: moka_mutate [--count N] [--seed N]\n");
      return 2;
    }
  }
  const bool files = report("model files", mutate_models(count, seed));
  const bool sessions = report("sessions", mutate_sessions(count, seed));
  std::printf("%s\n", files && sessions ? "nothing wrong" : "WRONG: see above");
  return files && sessions ? 0 : 1;
}

}  // namespace
}  // namespace moka::mutate

int main(int argc, char** argv) { return moka::mutate::run(argc, argv); }
