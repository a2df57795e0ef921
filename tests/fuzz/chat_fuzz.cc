// Any bytes as a saved chat: an error or a chat that is safe to use, never a crash.
//
// No corpus is needed. The first byte chooses: below 128, the rest is a file as it is. From 128 on,
// the rest are changes to a good file, five bytes each (three of place, one of width, one of value),
// and its checksums are made right again, which no fuzzer could guess.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "moka/moka.h"
#include "runtime/checksum.h"
#include "tests/fuzz/targets.h"
#include "tests/spec_builder.h"

namespace {

using Bytes = std::vector<uint8_t>;

const moka::Model& model() {
  static const moka::test::TestModel made = [] {
    moka::test::TestModelOptions options;
    options.vocab_size = 260, options.bytes_tokenizer = true;
    options.layers = 1, options.width = 8, options.heads = 1, options.latents = 2;
    options.hidden = 8, options.window = 2;
    return moka::test::make_test_model(options);
  }();
  static const moka::Model opened = [] {
    moka::OpenOptions options;
    options.executor.threads = 1;
    return moka::Model::from_spec(made.spec, options).value();
  }();
  return opened;
}

const Bytes& good_chat() {
  static const Bytes bytes = [] {
    moka::Chat chat = moka::Chat::create(model()).value();
    moka::GenerateOptions write;
    write.max_tokens = 4;
    if (!chat.append(moka::Role::kUser, "one").ok() || !chat.generate(write).ok() ||
        !chat.regenerate(write).ok() || !chat.append(moka::Role::kUser, "two").ok()) {
      std::abort();
    }
    return chat.save().value();
  }();
  return bytes;
}

// Changes no turn and no state; what was accepted can be written and read again.
void use(moka::Chat chat) {
  const auto bytes = chat.save();
  if (!bytes.ok() || !moka::Chat::open(model(), bytes.value()).ok()) std::abort();
  std::vector<moka::TurnId> ids;
  for (const moka::Turn& turn : chat.turns()) ids.push_back(turn.id);
  moka::GenerateOptions write;
  write.max_tokens = 2;
  for (const moka::TurnId id : ids) {
    if (!chat.switch_to(id).ok() || chat.current() != id) std::abort();
    (void)chat.generate(write);  // a state may be such that no token can be drawn
    (void)chat.edit(id, "x");
  }
  (void)chat.regenerate(write);
  (void)chat.undo();
  for (const moka::TurnId id : ids) (void)chat.remove(id);
}

void open(const Bytes& bytes) {
  moka::Result<moka::Chat> chat = moka::Chat::open(model(), bytes);
  if (chat.ok()) use(std::move(chat).value());
}

uint64_t number(const Bytes& bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= uint64_t{bytes[at + i]} << (8 * i);
  return value;
}

void seal(Bytes* bytes, size_t begin, size_t end) {
  const uint64_t sum = moka::xxh3_64(bytes->data() + begin, end - begin);
  for (size_t i = 0; i < 8; ++i) (*bytes)[end + i] = static_cast<uint8_t>(sum >> (8 * i));
}

// The head, and each state as long as the good file has it.
void seal_all(Bytes* bytes) {
  static const std::vector<size_t> ends = [] {
    const Bytes& good = good_chat();
    const auto head = static_cast<size_t>(number(good, 12));
    std::vector<size_t> found = {0, head};
    for (size_t table = head - 8 - 3 * 16; table < head - 8; table += 16) {
      found.push_back(found.back() + static_cast<size_t>(number(good, table + 8)));
    }
    if (found.back() != good.size()) std::abort();
    return found;
  }();
  for (size_t i = 1; i < ends.size(); ++i) seal(bytes, ends[i - 1], ends[i] - 8);
}

}  // namespace

void moka::fuzz::chat_fuzz(const uint8_t* data, size_t size) {
  if (size == 0) return;
  if (data[0] < 128) {
    open(Bytes(data + 1, data + size));
    return;
  }
  Bytes bytes = good_chat();
  for (size_t at = 1; at + 5 <= size; at += 5) {
    const size_t place = (data[at] | size_t{data[at + 1]} << 8 | size_t{data[at + 2]} << 16);
    const size_t width = data[at + 3] % 8 + 1;
    for (size_t i = 0; i < width; ++i) {
      bytes[(place + i) % bytes.size()] = i == 0 ? data[at + 4] : data[at + 4] >= 128 ? 0xFF : 0;
    }
  }
  seal_all(&bytes);
  open(bytes);
}
