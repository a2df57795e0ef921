// A chat as bytes; chat_format.h has the layout.
#include <cstring>
#include <string>
#include <string_view>

#include "runtime/chat_format.h"
#include "runtime/chat_impl.h"
#include "runtime/checksum.h"
#include "runtime/little_endian.h"
#include "runtime/snapshots.h"

namespace moka {
namespace {

class Writer {
 public:
  template <class T>
  void number(T value) {
    uint8_t bytes[sizeof(T)];
    put_little_endian(value, bytes);
    raw(bytes, sizeof(bytes));
  }
  void real(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    number(bits);
  }
  void raw(const void* data, size_t size) {
    const auto* from = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), from, from + size);
  }
  void text(std::string_view text) {
    number(static_cast<uint32_t>(text.size()));
    raw(text.data(), text.size());
  }
  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

void write_sampler(const Sampler& sampler, Writer* out) {
  const SamplerOptions& options = sampler.options();
  out->real(options.temperature);
  out->number(options.top_k);
  out->real(options.top_p);
  out->real(options.min_p);
  out->real(options.repeat_penalty);
  out->number(options.repeat_window);
  out->number(options.seed);
  out->number(static_cast<uint32_t>(options.bias.size()));
  for (const LogitBias& entry : options.bias) {
    out->number(static_cast<uint32_t>(entry.token));
    out->real(entry.bias);
  }
  const std::vector<uint8_t> state = sampler.save();
  out->number(static_cast<uint32_t>(state.size()));
  out->raw(state.data(), state.size());
}

void write_tree(const ChatTree& tree, Writer* out) {
  out->number(tree.next_id());
  out->number(tree.current());
  out->number(static_cast<uint32_t>(tree.turns().size()));
  for (const Turn& turn : tree.turns()) {
    out->number(turn.id);
    out->number(turn.parent);
    out->number(static_cast<uint8_t>(turn.role));
    out->number(static_cast<uint8_t>(turn.end));
    out->number(turn.head);
    out->number(turn.tail);
    out->number(static_cast<uint32_t>(turn.tokens.size()));
    out->text(turn.text);
    for (const TokenId token : turn.tokens) out->number(static_cast<uint32_t>(token));
  }
}

}  // namespace

Result<std::vector<uint8_t>> ChatImpl::save() const {
  for (const Turn& turn : tree.turns()) {  // all other counts are bounded when a turn is made
    if (turn.text.size() <= UINT32_MAX) continue;
    return Status(StatusCode::kOutOfRange,
                  "turn " + std::to_string(turn.id) + " has " + std::to_string(turn.text.size()) +
                      " bytes of text, a file at most " + std::to_string(UINT32_MAX));
  }
  struct State {
    TurnId turn;
    std::vector<uint8_t> bytes;
  };
  std::vector<State> states;
  if (tree.current() != kStartOfChat) {
    MOKA_ASSIGN_OR_RETURN(std::vector<uint8_t> bytes, session.save());
    states.push_back({tree.current(), std::move(bytes)});
  }
  const std::vector<TurnId> recent = kept.recent();
  uint32_t others = 0;
  for (size_t i = 0; i < recent.size() && others < options.saved_states; ++i) {
    if (recent[i] == tree.current()) continue;
    MOKA_ASSIGN_OR_RETURN(std::vector<uint8_t> bytes, kept.save(recent[i]));
    states.push_back({recent[i], std::move(bytes)});
    ++others;
  }

  Writer out;
  out.raw(kChatMagic, sizeof(kChatMagic));
  out.number(options.from.empty() ? kChatVersion : kChatVersionWithPrefix);
  const size_t length_at = out.bytes().size();
  out.number(uint64_t{0});
  out.number(model.info().fingerprint);
  out.text(std::string_view(model.info().name).substr(0, kMaxNameBytes));
  out.text(options.format.id);
  if (!options.from.empty()) {
    out.text(options.from);
    out.number(snapshot_check(prefix()));
  }
  write_sampler(sampler, &out);
  write_tree(tree, &out);
  out.number(static_cast<uint32_t>(states.size()));
  uint64_t total = 0;
  for (const State& state : states) {
    out.number(state.turn);
    out.number(static_cast<uint64_t>(state.bytes.size()));
    total += state.bytes.size();
  }
  std::vector<uint8_t>& bytes = out.bytes();
  const uint64_t length = bytes.size() + kChatChecksumBytes;
  put_little_endian(length, bytes.data() + length_at);
  bytes.reserve(static_cast<size_t>(length + total));
  out.number(xxh3_64(bytes.data(), bytes.size()));
  for (const State& state : states) out.raw(state.bytes.data(), state.bytes.size());
  return std::move(bytes);
}

}  // namespace moka
