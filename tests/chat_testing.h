// What the tests of chats share: small models that read bytes, and the plain way to read a branch.
#ifndef MOKA_TESTS_CHAT_TESTING_H_
#define MOKA_TESTS_CHAT_TESTING_H_

#include <string>
#include <vector>

#include "moka/moka.h"
#include "tests/spec_builder.h"

namespace moka::test {

// Random language models over 260 ids: 256 bytes, <pad>, <unk>, <bos> 258, <eos> 259.
TestModelOptions chat_model_options();
// `made` outlives the model; chunks of 16 tokens unless told otherwise.
Model open_chat_model(const TestModel& made, uint32_t chunk = 16);
Chat new_chat(const Model& model, const ChatOptions& options = {});

// A fresh session that has read the prefix that the chat began from, if any, and all turns up to
// `turn`: given ones at once, generated ones token by token. Needs nothing of Chat but its turns.
Session read_branch(const Model& model, const Chat& chat, TurnId turn);
std::vector<float> row_of(Span<const float> logits);

// The call must succeed.
ChatStep must(const Result<ChatStep>& step);
GenerateOptions write_tokens(uint64_t count);

}  // namespace moka::test

#endif  // MOKA_TESTS_CHAT_TESTING_H_
