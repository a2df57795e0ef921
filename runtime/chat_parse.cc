// A chat from bytes that nobody vouches for; chat_format.h has the layout.
//
// Everything is checked before it is used, and every count is held against the bytes that are left
// before it allocates.
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "runtime/chat_format.h"
#include "runtime/chat_impl.h"
#include "runtime/checksum.h"
#include "runtime/little_endian.h"
#include "runtime/snapshots.h"

namespace moka {
namespace {

Status corrupt(const std::string& what) {
  return Status(StatusCode::kCorrupt, "saved chat: " + what);
}

// What came of the file's own options: wrong ones are damage, but a lack of memory is not.
Status of_file(const Status& status) {
  return status.code() == StatusCode::kOutOfMemory ? status : corrupt(status.message());
}

// Reads numbers and texts from the head, and remembers when it ended too soon: what is read then is
// zero or empty, and ok() says it.
class Reader {
 public:
  Reader(const uint8_t* bytes, size_t size) : at_(bytes), left_(size) {}

  template <class T>
  T number() {
    if (!has(sizeof(T))) return 0;
    const T value = get_little_endian<T>(at_);
    skip(sizeof(T));
    return value;
  }
  float real() {
    const auto bits = number<uint32_t>();
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  // A count of things that take at least so many bytes each.
  uint32_t count(size_t bytes) {
    const auto count = number<uint32_t>();
    if (count > left_ / bytes) ok_ = false;
    return ok_ ? count : 0;
  }
  Span<const uint8_t> raw() {
    const uint32_t size = count(1);
    const Span<const uint8_t> bytes(at_, size);
    skip(size);
    return bytes;
  }
  std::string text() {
    const Span<const uint8_t> bytes = raw();
    return std::string(bytes.begin(), bytes.end());
  }
  bool ok() const { return ok_; }
  size_t left() const { return left_; }

 private:
  bool has(size_t bytes) {
    if (left_ < bytes) ok_ = false;
    return ok_;
  }
  void skip(size_t bytes) {
    at_ += bytes;
    left_ -= bytes;
  }

  const uint8_t* at_;
  size_t left_;
  bool ok_ = true;
};

uint32_t version_of(Span<const uint8_t> bytes) {
  return get_little_endian<uint32_t>(bytes.data() + sizeof(kChatMagic));
}

// The head without magic, version, length and checksum, all of which are right.
Result<Span<const uint8_t>> check_head(Span<const uint8_t> bytes) {
  if (bytes.size() < kChatFixedBytes + kChatChecksumBytes) {
    return corrupt(std::to_string(bytes.size()) + " bytes, too few to be one");
  }
  if (std::memcmp(bytes.data(), kChatMagic, sizeof(kChatMagic)) != 0) {
    return corrupt("does not begin with MOKACHAT");
  }
  const uint32_t version = version_of(bytes);
  if (version != kChatVersion && version != kChatVersionWithPrefix) {
    return Status(StatusCode::kVersion, "saved chat: version " + std::to_string(version) +
                                            ", this library reads versions " +
                                            std::to_string(kChatVersion) + " and " +
                                            std::to_string(kChatVersionWithPrefix));
  }
  const auto length = get_little_endian<uint64_t>(bytes.data() + 12);
  if (length > bytes.size() || length < kChatFixedBytes + kChatChecksumBytes) {
    return corrupt("its head has " + std::to_string(length) + " bytes, the whole of it " +
                   std::to_string(bytes.size()) + "; it is damaged or cut off");
  }
  const auto end = static_cast<size_t>(length) - kChatChecksumBytes;
  if (get_little_endian<uint64_t>(bytes.data() + end) != xxh3_64(bytes.data(), end)) {
    return corrupt("the checksum does not match; it is damaged or cut off");
  }
  return bytes.subspan(kChatFixedBytes, end - kChatFixedBytes);
}

// Who wrote it: a chat continues only with the very model, and with the same template.
Status check_origin(const ChatImpl& chat, Reader* in) {
  const auto fingerprint = in->number<uint64_t>();
  const std::string name = in->text();
  const std::string format = in->text();
  if (!in->ok()) return corrupt("its head ends too soon");
  const ModelInfo& info = chat.model.info();
  if (fingerprint != info.fingerprint) {
    return Status(StatusCode::kFailedPrecondition,
                  "saved chat: it belongs to the model '" + name + "' (" +
                      checksum_text(fingerprint) + "), this one is '" + info.name + "' (" +
                      checksum_text(info.fingerprint) +
                      "); chats continue only with the very model file");
  }
  if (format != chat.options.format.id) {
    return Status(StatusCode::kFailedPrecondition, "saved chat: it has the template '" + format +
                                                       "', and '" + chat.options.format.id +
                                                       "' was given");
  }
  return Status();
}

// What it began from: it goes on only behind the very tokens.
Status parse_prefix(bool has_prefix, ChatImpl* chat, Reader* in) {
  const std::string given = chat->options.from;
  const std::string name = has_prefix ? in->text() : std::string();
  const auto check = has_prefix ? in->number<uint64_t>() : 0;
  if (!in->ok()) return corrupt("its head ends too soon");
  if (has_prefix) {
    const std::string wrong = snapshot_name_error(name);
    if (!wrong.empty()) return corrupt("its prefix snapshot: " + wrong);
  }
  if (!given.empty() && given != name) {
    return Status(StatusCode::kFailedPrecondition,
                  "saved chat: it begins from " +
                      (has_prefix ? "the prefix snapshot '" + name + "'" : std::string("nothing")) +
                      ", and '" + given + "' was given");
  }
  if (!has_prefix) return Status();
  if (given.empty()) {
    const Status begun = chat->begin_from(name);
    if (!begun.ok()) return Status(begun.code(), "saved chat: " + begun.message());
  }
  if (snapshot_check(chat->prefix()) == check) return Status();
  return Status(StatusCode::kFailedPrecondition,
                "saved chat: it begins from the prefix snapshot '" + name +
                    "', which has other tokens in this model file");
}

Result<Sampler> parse_sampler(uint32_t vocab_size, Reader* in) {
  SamplerOptions options;
  options.temperature = in->real();
  options.top_k = in->number<uint32_t>();
  options.top_p = in->real();
  options.min_p = in->real();
  options.repeat_penalty = in->real();
  options.repeat_window = in->number<uint32_t>();
  options.seed = in->number<uint64_t>();
  const uint32_t biases = in->count(kChatBiasBytes);
  options.bias.reserve(biases);
  for (uint32_t i = 0; i < biases; ++i) {
    const auto token = static_cast<TokenId>(in->number<uint32_t>());
    options.bias.push_back({token, in->real()});
  }
  const Span<const uint8_t> state = in->raw();
  if (!in->ok()) return corrupt("its head ends too soon");
  Result<Sampler> sampler = Sampler::create(options, vocab_size);
  if (!sampler.ok()) return of_file(sampler.status());
  const Status restored = sampler.value().restore(state);
  if (!restored.ok()) return of_file(restored);
  return sampler;
}

// Checks of one turn that need no other.
Status check_turn_alone(const Turn& turn, uint8_t role, uint8_t end, uint32_t vocab_size) {
  const std::string name = "turn " + std::to_string(turn.id);
  if (role > static_cast<uint8_t>(Role::kModel)) {
    return corrupt(name + ": role " + std::to_string(role) + ", not 0 to 2");
  }
  if (end > static_cast<uint8_t>(TurnEnd::kLoop)) {
    return corrupt(name + ": end " + std::to_string(end) + ", not 0 to " +
                   std::to_string(static_cast<int>(TurnEnd::kLoop)));
  }
  if (uint64_t{turn.head} + turn.tail > turn.tokens.size()) {
    return corrupt(name + ": " + std::to_string(turn.head) + " tokens before the text and " +
                   std::to_string(turn.tail) + " behind it, of " +
                   std::to_string(turn.tokens.size()));
  }
  for (size_t i = 0; i < turn.tokens.size(); ++i) {
    const TokenId token = turn.tokens[i];
    if (token >= 0 && static_cast<uint32_t>(token) < vocab_size) continue;
    return corrupt(name + ": token " + std::to_string(i) + " is " +
                   std::to_string(static_cast<uint32_t>(token)) + ", ids are 0 to " +
                   std::to_string(vocab_size - 1));
  }
  return Status();
}

Status parse_turn(const ModelInfo& info, TurnId next_id, Reader* in, ChatTree* tree) {
  Turn turn;
  turn.id = in->number<uint64_t>();
  turn.parent = in->number<uint64_t>();
  const auto role = in->number<uint8_t>();
  const auto end = in->number<uint8_t>();
  turn.head = in->number<uint32_t>();
  turn.tail = in->number<uint32_t>();
  const uint32_t tokens = in->count(kChatTokenBytes);
  turn.text = in->text();
  if (!in->ok() || tokens > in->left() / kChatTokenBytes) return corrupt("its head ends too soon");
  turn.tokens.reserve(tokens);
  for (uint32_t i = 0; i < tokens; ++i) {
    turn.tokens.push_back(static_cast<TokenId>(in->number<uint32_t>()));
  }
  // Parents come before their children, so there is no way round in a circle.
  const std::string name = "turn " + std::to_string(turn.id);
  const TurnId last = tree->turns().empty() ? 0 : tree->turns()[tree->turns().size() - 1].id;
  if (turn.id <= last || turn.id >= next_id) {
    return corrupt(name + " stands behind turn " + std::to_string(last) + ", and the next one is " +
                   std::to_string(next_id) + "; ids rise");
  }
  if (!tree->has(turn.parent)) {
    return corrupt(name + ": its parent " + std::to_string(turn.parent) + " is not before it");
  }
  MOKA_RETURN_IF_ERROR(check_turn_alone(turn, role, end, info.vocab_size));
  turn.role = static_cast<Role>(role);
  turn.end = static_cast<TurnEnd>(end);
  // Positions stay below 2^64: each adds at most the bytes of the file.
  turn.position = tree->position(turn.parent) + tokens;
  if (turn.position == 0 || (!turn.generated() && tokens == 0)) {
    return corrupt(name + ": has no tokens");
  }
  if (info.position_limit != 0 && turn.position > info.position_limit) {
    return corrupt(name + ": ends at position " + std::to_string(turn.position) +
                   ", the model reads at most " + std::to_string(info.position_limit));
  }
  tree->reserve();
  tree->add(std::move(turn));
  return Status();
}

Status parse_tree(const ModelInfo& info, Reader* in, ChatTree* tree) {
  const auto next_id = in->number<uint64_t>();
  const auto current = in->number<uint64_t>();
  const uint32_t turns = in->count(kChatTurnBytes);
  if (!in->ok()) return corrupt("its head ends too soon");
  for (uint32_t i = 0; i < turns; ++i) {
    MOKA_RETURN_IF_ERROR(parse_turn(info, next_id, in, tree));
  }
  if (next_id == 0 || next_id > (uint64_t{1} << 62)) {
    return corrupt("the next turn is " + std::to_string(next_id) + ", not 1 to 2^62");
  }
  if (!tree->has(current)) {
    return corrupt("its current turn " + std::to_string(current) + " is not in it");
  }
  tree->set_next_id(next_id);
  tree->set_current(current);
  return Status();
}

struct SavedState {
  TurnId turn;
  Span<const uint8_t> bytes;
};

// The table at the end of the head, and the bytes that it speaks of.
Result<std::vector<SavedState>> parse_states(const ChatTree& tree, Span<const uint8_t> bytes,
                                             Reader* in) {
  const uint32_t count = in->count(kChatStateBytes);
  if (!in->ok()) return corrupt("its head ends too soon");
  if (count > kMaxSavedStates + 1) {
    return corrupt(std::to_string(count) + " states, at most " +
                   std::to_string(kMaxSavedStates + 1));
  }
  std::vector<SavedState> states;
  states.reserve(count);
  size_t at = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const auto turn = in->number<uint64_t>();
    const auto size = in->number<uint64_t>();
    const std::string name = "the state of turn " + std::to_string(turn);
    if (tree.find(turn) == nullptr) return corrupt(name + ", which is not in it");
    if (i == 0 && tree.current() != kStartOfChat && turn != tree.current()) break;
    for (const SavedState& other : states) {  // they are few
      if (other.turn == turn) return corrupt(name + " is there twice");
    }
    if (size > bytes.size() - at) {
      return corrupt(name + " has " + std::to_string(size) + " bytes, of which " +
                     std::to_string(bytes.size() - at) + " are there");
    }
    states.push_back({turn, bytes.subspan(at, static_cast<size_t>(size))});
    at += static_cast<size_t>(size);
  }
  if (tree.current() != kStartOfChat && states.empty()) {
    return corrupt("the state of its current turn " + std::to_string(tree.current()) +
                   " is not the first");
  }
  if (!in->ok() || in->left() != 0) return corrupt("its head is longer or shorter than it says");
  if (at != bytes.size()) {
    return corrupt(std::to_string(bytes.size() - at) + " bytes follow its last state");
  }
  return states;
}

}  // namespace

Status ChatImpl::parse(Span<const uint8_t> bytes) {
  MOKA_ASSIGN_OR_RETURN(const Span<const uint8_t> head, check_head(bytes));
  Reader in(head.data(), head.size());
  MOKA_RETURN_IF_ERROR(check_origin(*this, &in));
  const bool has_prefix = version_of(bytes) == kChatVersionWithPrefix;
  MOKA_RETURN_IF_ERROR(parse_prefix(has_prefix, this, &in));
  MOKA_ASSIGN_OR_RETURN(sampler, parse_sampler(model.info().outputs, &in));
  MOKA_RETURN_IF_ERROR(parse_tree(model.info(), &in, &tree));
  const size_t head_bytes = kChatFixedBytes + head.size() + kChatChecksumBytes;
  MOKA_ASSIGN_OR_RETURN(
      const std::vector<SavedState> states,
      parse_states(tree, bytes.subspan(head_bytes, bytes.size() - head_bytes), &in));

  for (size_t i = states.size(); i-- > 0;) {  // the most recently used one comes first
    if (states[i].turn == tree.current()) continue;
    kept.keep_saved(states[i].turn, states[i].bytes, kept.now());
  }
  if (tree.current() == kStartOfChat) return Status();
  Status status = session.restore(states[0].bytes);
  if (status.ok() && session.position() != tree.position(tree.current())) {
    status = corrupt("the state of its current turn is at position " +
                     std::to_string(session.position()) + ", the turn ends at " +
                     std::to_string(tree.position(tree.current())));
  }
  if (status.ok()) return status;
  if (status.code() == StatusCode::kVersion) {
    // Another Moka kept states differently. The tokens are here, so nothing is lost but time.
    const TurnId turn = tree.current();
    tree.set_current(kStartOfChat);
    MOKA_RETURN_IF_ERROR(go_to_start());
    return go(turn).status();
  }
  const StatusCode code =
      status.code() == StatusCode::kFailedPrecondition ? StatusCode::kCorrupt : status.code();
  return Status(code, "the current turn: " + status.message());
}

}  // namespace moka
