// What the fuzz targets of moka.h share: a small model, decisions, and what every call is held to.
#ifndef MOKA_TESTS_FUZZ_CAPI_PLAY_H_
#define MOKA_TESTS_FUZZ_CAPI_PLAY_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "converter/writer.h"
#include "moka.h"
#include "tests/capi_handles.h"
#include "tests/fuzz/choices.h"
#include "tests/spec_builder.h"

#define MOKA_FUZZ_REQUIRE(condition)                                                     \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s, line %d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)

namespace moka::fuzz {

constexpr uint32_t kPlayVocab = 260;
constexpr uint32_t kPlayPositions = 40;  // so few that calls reach the end of them

using test::Handle;

inline const moka_model* play_model() {
  static ModelBytes bytes = [] {
    test::TestModelOptions options;
    options.vocab_size = kPlayVocab, options.bytes_tokenizer = true;
    options.layers = 1, options.width = 8, options.heads = 1, options.latents = 2;
    options.hidden = 8, options.window = 2;
    options.positions = PositionKind::kLearned, options.max_length = kPlayPositions;
    return write_model_to_memory(test::make_test_model(options).spec).value();
  }();
  static const Handle<moka_model> opened = [] {
    moka_open_options options;
    moka_open_options_init(&options, sizeof options);
    options.threads = 1;
    moka_model* out = nullptr;
    MOKA_FUZZ_REQUIRE(moka_model_open_memory(bytes.data(), bytes.size(), &options, &out, nullptr) ==
                      MOKA_OK);
    return Handle<moka_model>(out);
  }();
  return opened.get();
}

using Bytes = std::vector<uint8_t>;
using Tokens = std::vector<moka_token>;

// Decides from the bytes of an input, and calls.
class Player {
 public:
  Player(const uint8_t* data, size_t size) : choices_(data, size), left_(size) {}
  // Calls that are worth making: the bytes that are missing would all read as zero.
  bool goes_on() const { return calls_ < 48 && used_ < left_; }

 protected:
  uint8_t byte() {
    ++used_;
    return choices_.byte();
  }
  size_t below(size_t n) { return byte() % n; }
  size_t word() {
    const size_t high = byte();
    return high << 8 | byte();
  }
  bool rarely() { return byte() >= 232; }
  template <class T>
  T* rarely_none(T* handle) {
    return rarely() ? nullptr : handle;
  }
  float any_float() {
    uint32_t bits = 0;
    for (int i = 0; i < 4; ++i) bits = bits << 8 | byte();
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  Tokens some_tokens() {
    Tokens tokens(below(9));
    for (moka_token& token : tokens) token = byte();
    if (!tokens.empty() && rarely()) tokens.back() = below(2) == 0 ? -1 : int32_t{kPlayVocab};
    return tokens;
  }
  std::string some_text() {
    std::string text(below(12), '\0');
    for (char& c : text) c = static_cast<char>(byte());
    return text;
  }

  // Holds a call to what all promise; true when it succeeded. Its error must be error_.
  bool ended(moka_status status) {
    MOKA_FUZZ_REQUIRE(status >= MOKA_OK && status < MOKA_INTERNAL);
    MOKA_FUZZ_REQUIRE(error_.code == status);
    MOKA_FUZZ_REQUIRE(memchr(error_.message, 0, sizeof error_.message) != nullptr);
    MOKA_FUZZ_REQUIRE((error_.message[0] == '\0') == (status == MOKA_OK));
    std::memset(&error_, 0x55, sizeof error_);
    return status == MOKA_OK;
  }

  // How to write a few tokens; holds until the next call of this.
  moka_generate_options writing() {
    moka_generate_options options;
    moka_generate_options_init(&options, sizeof options);
    options.max_tokens = below(6);
    options.stop_at_end = static_cast<int32_t>(below(2));
    options.loop_tokens = below(4) == 0 ? byte() : 256;
    options.lookup = below(2) == 0 ? 0 : below(20);
    lookup_ = some_tokens();
    options.lookup_tokens = lookup_.data(), options.lookup_token_count = lookup_.size();
    if (rarely()) {
      stop_ = some_text(), stops_[0] = stop_.c_str();
      options.stop_texts = stops_, options.stop_text_count = 1;
    }
    if (below(2) == 0) options.on_text = &on_text, options.user = this;
    return options;
  }

  size_t calls_ = 0;
  moka_error error_{};

 private:
  static int32_t on_text(void* user, const char* text, size_t size) {
    MOKA_FUZZ_REQUIRE(text != nullptr && size > 0);
    return static_cast<Player*>(user)->rarely() ? 1 : 0;
  }

  Choices choices_;
  const size_t left_;
  size_t used_ = 0;
  Tokens lookup_;
  std::string stop_;
  const char* stops_[1] = {nullptr};
};

}  // namespace moka::fuzz

#endif  // MOKA_TESTS_FUZZ_CAPI_PLAY_H_
