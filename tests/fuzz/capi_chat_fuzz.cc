// Calls of moka_chat.h in any order, with right and wrong arguments: each succeeds or says why not, what
// fails changes nothing, and what is saved opens again.
//
// No corpus is needed: every byte is a decision, and the calls end with the bytes.
#include <algorithm>
#include <cstdint>
#include <string>

#include "moka.h"
#include "tests/fuzz/capi_play.h"
#include "tests/fuzz/targets.h"

namespace {

using namespace moka::fuzz;  // NOLINT

class Chats : public Player {
 public:
  using Player::Player;
  void run() {
    for (; goes_on(); ++calls_) below(4) == 0 ? save() : change();
  }

 private:
  void change();
  void save();

  Handle<moka_chat> chat_;
};

void Chats::change() {
  if (chat_ == nullptr || rarely()) {
    moka_chat_options options;
    moka_chat_options_init(&options, sizeof options);
    options.state_budget_bytes = byte() << 6;
    options.user_prefix = below(2) == 0 ? "U:" : nullptr;
    if (rarely()) options.from = "none";
    moka_chat* out = nullptr;
    if (ended(moka_chat_create(rarely_none(play_model()), &options, &out, &error_)))
      chat_.reset(out);
    if (chat_ == nullptr) return;
  }
  moka_chat* chat = chat_.get();
  const moka_turn_id current = moka_chat_current(chat);
  const size_t turns = moka_chat_turn_count(chat);
  moka_chat_step step{};
  step.struct_size = sizeof step;
  if (rarely()) moka_chat_cancel(chat);
  const std::string text = some_text();
  const auto role = static_cast<int32_t>(below(4));
  const moka_turn_id turn = below(8);
  bool good = false;
  switch (below(8)) {
    case 0:
      good = ended(moka_chat_append(chat, role, text.data(), text.size(), &step, &error_));
      break;
    case 1:
      good = ended(moka_chat_branch(chat, turn, role, text.data(), text.size(), &step, &error_));
      break;
    case 2:
      good = ended(moka_chat_edit(chat, turn, text.data(), text.size(), &step, &error_));
      break;
    case 3: {
      const moka_generate_options options = writing();
      good = ended(moka_chat_generate(chat, &options, nullptr, &step, &error_));
      break;
    }
    case 4: {
      const moka_generate_options options = writing();
      good = ended(moka_chat_regenerate(chat, &options, nullptr, &step, &error_));
      break;
    }
    case 5: good = ended(moka_chat_undo(chat, &step, &error_)); break;
    case 6: good = ended(moka_chat_switch_to(chat, turn, &step, &error_)); break;
    default: good = ended(moka_chat_remove(chat, turn, &error_)); step.turn = current;
  }
  MOKA_FUZZ_REQUIRE(moka_chat_current(chat) == (good ? step.turn : current));
  MOKA_FUZZ_REQUIRE(good || moka_chat_turn_count(chat) == turns);
}

// A saved chat opens with the same turns. A damaged one is refused, or a state in it was damaged, which
// is let go: then its turn is read again, with the same output.
void Chats::save() {
  if (chat_ == nullptr) return;
  size_t size = 0;
  MOKA_FUZZ_REQUIRE(moka_chat_save(chat_.get(), nullptr, 0, &size, nullptr) == MOKA_OK);
  Bytes bytes(size);
  MOKA_FUZZ_REQUIRE(moka_chat_save(chat_.get(), bytes.data(), size, &size, nullptr) == MOKA_OK);
  const bool damaged = below(2) == 0;
  if (damaged) bytes[word() % size] ^= static_cast<uint8_t>(byte() | 1);
  moka_chat* out = nullptr;
  if (!ended(moka_chat_open(play_model(), bytes.data(), size, nullptr, &out, &error_))) {
    MOKA_FUZZ_REQUIRE(damaged && out == nullptr);
    return;
  }
  const Handle<moka_chat> opened(out);
  const moka_turn_id current = moka_chat_current(chat_.get());
  MOKA_FUZZ_REQUIRE(moka_chat_current(out) == current);
  MOKA_FUZZ_REQUIRE(moka_chat_turn_count(out) == moka_chat_turn_count(chat_.get()));
  MOKA_FUZZ_REQUIRE(moka_chat_switch_to(out, current, nullptr, nullptr) == MOKA_OK);
  const float *expected = nullptr, *found = nullptr;
  size_t count = 0, found_count = 0;
  MOKA_FUZZ_REQUIRE(moka_chat_logits(chat_.get(), &expected, &count, nullptr) == MOKA_OK);
  MOKA_FUZZ_REQUIRE(moka_chat_logits(out, &found, &found_count, nullptr) == MOKA_OK);
  MOKA_FUZZ_REQUIRE(count == found_count && std::equal(expected, expected + count, found));
}

}  // namespace

void moka::fuzz::capi_chat_fuzz(const uint8_t* data, size_t size) { Chats(data, size).run(); }
