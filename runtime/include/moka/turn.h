// Turn: a piece of a chat (chat.h), given or written by the model.
#ifndef MOKA_TURN_H_
#define MOKA_TURN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "moka/tokenizer.h"

namespace moka {

using TurnId = uint64_t;  // from 1, rising; a chat uses none twice
// Where nothing was read yet, or the prefix of ChatOptions::from: the parent of first turns.
constexpr TurnId kStartOfChat = 0;

// Numbers are in files: appended, never renumbered.
enum class Role : uint8_t { kSystem = 0, kUser = 1, kModel = 2 };
enum class TurnEnd : uint8_t {
  kGiven = 0,          // a text that was given
  kStopToken = 1,      // the model ended it
  kStopText = 2,       // one of GenerateOptions::stop was written
  kTokenBudget = 3,    // max_tokens
  kTimeBudget = 4,     // max_ms
  kCallback = 5,       // on_text returned false
  kPositionLimit = 6,  // the model reads no more
  kLoop = 7,           // loop_tokens
};
const char* turn_end_name(TurnEnd end);  // "given", "stop_token", ...

struct Turn {
  TurnId id = 0, parent = kStartOfChat;
  Role role = Role::kUser;
  TurnEnd end = TurnEnd::kGiven;
  // Everything that was read: the first `head` and the last `tail` tokens are the template's (and
  // what begins a text), those between are the text, or were written by the model.
  std::vector<TokenId> tokens;
  uint32_t head = 0, tail = 0;
  // As it was given; or what the model wrote, in whole code points. Bytes of a character that it
  // left incomplete wait for the next turn, if that is written too. A stop text is not part of it.
  std::string text;
  uint64_t position = 0;  // tokens from the start of the chat to the end of this turn

  bool generated() const { return end != TurnEnd::kGiven; }
};

}  // namespace moka

#endif  // MOKA_TURN_H_
