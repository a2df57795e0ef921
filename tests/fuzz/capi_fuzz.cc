// Calls of moka.h on sessions, samplers and text in any order, with right and wrong arguments: each
// succeeds or says why not, what fails changes nothing, and what objects hold is what the successful
// calls made of them.
//
// No corpus is needed: every byte is a decision, and the calls end with the bytes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "moka.h"
#include "tests/fuzz/capi_play.h"
#include "tests/fuzz/targets.h"

namespace {

using namespace moka::fuzz;  // NOLINT

constexpr size_t kPlaces = 2;  // of each kind of object

Bytes saved(const moka_session* session) {
  size_t size = 0;
  MOKA_FUZZ_REQUIRE(moka_session_save(session, nullptr, 0, &size, nullptr) == MOKA_OK);
  Bytes bytes(size);
  MOKA_FUZZ_REQUIRE(moka_session_save(session, bytes.data(), size, &size, nullptr) == MOKA_OK);
  return bytes;
}

struct Known {
  Handle<moka_session> session;
  Tokens tokens;      // that it must have read
  bool sure = false;  // its state comes from these, not from damaged bytes
};

class Play : public Player {
 public:
  Play(const uint8_t* data, size_t size) : Player(data, size) {
    for (Known& known : sessions_) {
      known.session = session();
      known.sure = true;
    }
    for (Handle<moka_sampler>& place : samplers_) place = sampler(0.0f);
    moka_text_stream* stream = nullptr;
    MOKA_FUZZ_REQUIRE(moka_text_stream_create(play_model(), &stream, nullptr) == MOKA_OK);
    stream_.reset(stream);
    moka_executor* executor = nullptr;
    MOKA_FUZZ_REQUIRE(moka_executor_of_model(play_model(), &executor, nullptr) == MOKA_OK);
    executor_.reset(executor);
  }

  void run() {
    for (; goes_on(); ++calls_) {
      call();
      for (const Known& known : sessions_) {
        MOKA_FUZZ_REQUIRE(moka_session_position(known.session.get()) == known.tokens.size());
      }
    }
    for (const Known& known : sessions_) compare(known);
  }

 private:
  Known& any() { return sessions_[below(kPlaces)]; }

  // ---- objects ----
  static Handle<moka_session> session() {
    moka_session* out = nullptr;
    MOKA_FUZZ_REQUIRE(moka_session_create(play_model(), nullptr, &out, nullptr) == MOKA_OK);
    return Handle<moka_session>(out);
  }
  static Handle<moka_sampler> sampler(float temperature) {
    moka_sampler_options options;
    moka_sampler_options_init(&options, sizeof options, play_model());
    options.temperature = temperature;
    moka_sampler* out = nullptr;
    MOKA_FUZZ_REQUIRE(moka_sampler_create(play_model(), &options, &out, nullptr) == MOKA_OK);
    return Handle<moka_sampler>(out);
  }

  // The session has the output of a fresh one that reads its tokens; other chunks, so nearly.
  static void compare(const Known& known) {
    if (!known.sure) return;
    const Handle<moka_session> fresh = session();
    MOKA_FUZZ_REQUIRE(moka_session_append(fresh.get(), known.tokens.data(), known.tokens.size(),
                                          nullptr) == MOKA_OK);
    const float *expected = nullptr, *found = nullptr;
    size_t count = 0, found_count = 0;
    MOKA_FUZZ_REQUIRE(moka_session_logits(fresh.get(), &expected, &count, nullptr) == MOKA_OK);
    MOKA_FUZZ_REQUIRE(moka_session_logits(known.session.get(), &found, &found_count, nullptr) ==
                      MOKA_OK);
    MOKA_FUZZ_REQUIRE(count == found_count);
    for (size_t i = 0; i < count; ++i) {
      MOKA_FUZZ_REQUIRE(std::abs(found[i] - expected[i]) <= 1e-4f);
    }
  }

  void call();
  void append();
  void step();
  void batch();
  void generate();
  void fork();
  void save();
  void restore();
  void draw();
  void make_sampler();
  void text();
  void stream();
  void score();

  Known sessions_[kPlaces];
  Handle<moka_sampler> samplers_[kPlaces];
  Handle<moka_text_stream> stream_;
  Handle<moka_executor> executor_;
};

void Play::append() {
  Known& known = any();
  const Tokens tokens = some_tokens();
  if (rarely()) moka_session_cancel(known.session.get());
  const moka_token* data = rarely_none(tokens.data());
  const Bytes before = saved(known.session.get());
  if (ended(moka_session_append(rarely_none(known.session.get()), data, tokens.size(), &error_))) {
    known.tokens.insert(known.tokens.end(), tokens.begin(), tokens.end());
  } else {
    MOKA_FUZZ_REQUIRE(saved(known.session.get()) == before);
  }
}

void Play::step() {
  Known& known = any();
  moka_token token = -7;
  moka_sampler* sampler = rarely_none(samplers_[below(kPlaces)].get());
  if (ended(moka_session_step(rarely_none(known.session.get()), sampler, &token, &error_))) {
    MOKA_FUZZ_REQUIRE(token >= 0 && token < int32_t{kPlayVocab});
    known.tokens.push_back(token);
  }
}

void Play::batch() {
  std::vector<moka_batch_step> steps;
  std::vector<Known*> moved;
  for (size_t i = below(kPlaces + 1); i > 0; --i) {
    Known& known = any();
    moved.push_back(&known);
    steps.push_back({known.session.get(), rarely_none(samplers_[below(kPlaces)].get()), -1, 0});
  }
  size_t culprit = 99;
  moka_executor* executor = rarely_none(executor_.get());
  const bool good =
      ended(moka_executor_step(executor, steps.data(), steps.size(), &culprit, &error_));
  MOKA_FUZZ_REQUIRE(good || executor == nullptr || culprit <= steps.size());
  for (size_t i = 0; good && i < steps.size(); ++i) moved[i]->tokens.push_back(steps[i].token);
}

void Play::generate() {
  Known& known = any();
  const moka_generate_options options = writing();
  moka_generate_result result{};
  result.struct_size = rarely() ? 8u : uint32_t{sizeof result};
  moka_session* session = rarely_none(known.session.get());
  const uint64_t before = moka_session_position(known.session.get());
  moka_sampler* sampler = samplers_[below(kPlaces)].get();
  const bool may = ended(moka_session_check_generate(session, &options, &error_));
  const bool did = ended(moka_session_generate(session, sampler, &options, &result, &error_));
  MOKA_FUZZ_REQUIRE(may || !did);
  const uint64_t written = moka_session_position(known.session.get()) - before;
  MOKA_FUZZ_REQUIRE(written <= options.max_tokens);
  MOKA_FUZZ_REQUIRE(result.struct_size == 8 || result.tokens == written);
  MOKA_FUZZ_REQUIRE(result.accepted <= result.drafted);
  // What was written is not told one by one.
  if (written > 0) known.sure = false;
  known.tokens.resize(known.tokens.size() + written);
}

void Play::fork() {
  Known& from = any();
  moka_session* copy = nullptr;
  if (!ended(moka_session_fork(rarely_none(from.session.get()), &copy, &error_))) {
    MOKA_FUZZ_REQUIRE(copy == nullptr);
    return;
  }
  Known made{Handle<moka_session>(copy), from.tokens, from.sure};
  MOKA_FUZZ_REQUIRE(saved(copy) == saved(from.session.get()));
  any() = std::move(made);
}

void Play::save() {
  const Known& known = any();
  const Bytes whole = saved(known.session.get());
  const size_t capacity = below(2) == 0 ? whole.size() : byte();
  Bytes bytes(capacity, 0x55);
  size_t needed = 0;
  const moka_session* session = rarely_none(known.session.get());
  if (ended(moka_session_save(session, bytes.data(), capacity, &needed, &error_))) {
    // Without room it only tells the size.
    MOKA_FUZZ_REQUIRE(needed == whole.size());
    MOKA_FUZZ_REQUIRE(capacity == 0 || std::equal(whole.begin(), whole.end(), bytes.begin()));
  } else {
    MOKA_FUZZ_REQUIRE(bytes == Bytes(capacity, 0x55));
  }
}

void Play::restore() {
  const Known& from = any();
  Known& to = any();
  Bytes bytes = saved(from.session.get());
  const Bytes before = saved(to.session.get());
  const bool damaged = below(2) == 0;
  if (damaged) bytes[word() % bytes.size()] ^= static_cast<uint8_t>(byte() | 1);
  const size_t size = rarely() ? byte() % bytes.size() : bytes.size();
  if (ended(moka_session_restore(to.session.get(), rarely_none(bytes.data()), size, &error_))) {
    MOKA_FUZZ_REQUIRE(!damaged && size == bytes.size());  // a changed byte is never taken
    to.tokens = Tokens(from.tokens), to.sure = from.sure;
  } else {
    MOKA_FUZZ_REQUIRE(saved(to.session.get()) == before);
  }
}

void Play::make_sampler() {
  // A size that is said may be more than the struct has: then zeros follow.
  struct {
    moka_sampler_options options;
    uint8_t zeros[256];
  } padded{};
  moka_sampler_options& options = padded.options;
  moka_sampler_options_init(&options, sizeof options, rarely_none(play_model()));
  if (below(2) == 0) options.temperature = any_float();
  if (below(4) == 0) options.top_p = any_float();
  if (below(4) == 0) options.min_p = any_float();
  if (below(4) == 0) options.repeat_penalty = any_float();
  options.top_k = byte(), options.repeat_window = byte(), options.seed = byte();
  moka_logit_bias bias[2] = {{byte(), any_float()}, {byte() * 2, -INFINITY}};
  if (below(4) == 0) options.bias = bias, options.bias_count = static_cast<uint32_t>(below(3));
  if (rarely()) options.struct_size = byte();
  moka_sampler* out = nullptr;
  if (ended(moka_sampler_create(rarely_none(play_model()), &options, &out, &error_))) {
    samplers_[below(kPlaces)].reset(out);
  } else {
    MOKA_FUZZ_REQUIRE(out == nullptr);
  }
}

void Play::draw() {
  std::vector<float> scores(rarely() ? byte() : kPlayVocab);
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = static_cast<float>(i % 7);
  if (!scores.empty()) scores[byte() % scores.size()] = any_float();
  moka_sampler* sampler = samplers_[below(kPlaces)].get();
  moka_token token = -7;
  if (ended(moka_sampler_sample(sampler, scores.data(), scores.size(), &token, &error_))) {
    MOKA_FUZZ_REQUIRE(token >= 0 && token < int32_t{kPlayVocab});
  }
  const Tokens tokens = some_tokens();
  (void)ended(moka_sampler_accept(sampler, tokens.data(), tokens.size(), &error_));
  uint8_t bytes[4096];
  size_t size = 0;
  MOKA_FUZZ_REQUIRE(moka_sampler_save(sampler, bytes, sizeof bytes, &size, nullptr) == MOKA_OK);
  if (below(2) == 0) bytes[byte() % size] ^= byte();
  (void)ended(moka_sampler_restore(samplers_[below(kPlaces)].get(), bytes, size, &error_));
  if (rarely()) moka_sampler_reset(sampler);
}

// Text becomes tokens, and these the same text.
void Play::text() {
  const std::string text = some_text();
  Tokens tokens(below(2) == 0 ? 64 : below(4), -7);
  size_t count = 0;
  const bool special = below(2) == 0;
  if (!ended(moka_model_tokenize(play_model(), text.data(), text.size(), special, tokens.data(),
                                 tokens.size(), &count, &error_))) {
    MOKA_FUZZ_REQUIRE(std::count(tokens.begin(), tokens.end(), -7) == int64_t(tokens.size()));
    return;
  }
  if (tokens.empty()) return;  // it only told how many there are
  tokens.resize(count);
  std::string back(64, '\0');
  size_t size = 0;
  MOKA_FUZZ_REQUIRE(moka_model_detokenize(play_model(), tokens.data(), count, back.data(),
                                          back.size(), &size, nullptr) == MOKA_OK);
  back.resize(size);
  MOKA_FUZZ_REQUIRE(special || back == text);
}

void Play::stream() {
  const char* text = nullptr;
  size_t size = 0;
  for (const moka_token token : some_tokens()) {
    if (ended(moka_text_stream_push(stream_.get(), token, &text, &size, &error_))) {
      MOKA_FUZZ_REQUIRE(text != nullptr);
    }
  }
  if (below(2) == 0) {
    (void)ended(moka_text_stream_finish(rarely_none(stream_.get()), &text, &size, &error_));
  }
}

void Play::score() {
  const Tokens tokens = some_tokens();
  const size_t first = below(10);
  double sum = 1;
  std::vector<double> each(tokens.size());
  if (ended(moka_score(play_model(), tokens.data(), tokens.size(), first, nullptr, &sum,
                       each.data(), nullptr, below(2) == 0 ? each.size() : below(4), &error_))) {
    MOKA_FUZZ_REQUIRE(std::isfinite(sum) && sum <= 0);
  }
}

void Play::call() {
  switch (below(14)) {
    case 0:
    case 1: append(); break;
    case 2: step(); break;
    case 3: batch(); break;
    case 4: generate(); break;
    case 5: fork(); break;
    case 6: save(); break;
    case 7: restore(); break;
    case 8: draw(); break;
    case 9: make_sampler(); break;
    case 10: text(); break;
    case 11: stream(); break;
    case 12: score(); break;
    default: {
      Known& known = any();
      moka_session_reset(known.session.get());
      known.tokens.clear(), known.sure = true;
    }
  }
}

}  // namespace

void moka::fuzz::capi_fuzz(const uint8_t* data, size_t size) { Play(data, size).run(); }
