#include "tests/chat_testing.h"

#include <utility>

#include "doctest/doctest.h"
#include "runtime/snapshots.h"

namespace moka::test {

TestModelOptions chat_model_options() {
  TestModelOptions options;
  options.vocab_size = 260;
  options.bytes_tokenizer = true;
  return options;
}

Model open_chat_model(const TestModel& made, uint32_t chunk) {
  OpenOptions options;
  options.executor.threads = 1;
  options.executor.chunk = chunk;
  auto model = Model::from_spec(made.spec, options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return std::move(model).value();
}

Chat new_chat(const Model& model, const ChatOptions& options) {
  auto chat = Chat::create(model, options);
  REQUIRE_MESSAGE(chat.ok(), chat.status().message());
  return std::move(chat).value();
}

Session read_branch(const Model& model, const Chat& chat, TurnId turn) {
  std::vector<const Turn*> path;
  for (TurnId id = turn; id != kStartOfChat; id = path.back()->parent) {
    path.push_back(chat.find(id));
    REQUIRE(path.back() != nullptr);
  }
  auto session = model.new_session();
  REQUIRE(session.ok());
  const auto append = [&session](Span<const TokenId> tokens) {
    REQUIRE(session.value().append(tokens).ok());
  };
  if (!chat.from().empty()) append(find_snapshot(model.spec(), chat.from())->tokens);
  for (auto at = path.rbegin(); at != path.rend(); ++at) {
    const Span<const TokenId> tokens((*at)->tokens);
    if (!(*at)->generated()) {
      append(tokens);
      continue;
    }
    append(tokens.subspan(0, (*at)->head));
    const size_t end = tokens.size() - (*at)->tail;
    for (size_t i = (*at)->head; i < end; ++i) append(tokens.subspan(i, 1));
    append(tokens.subspan(end, (*at)->tail));
  }
  return std::move(session).value();
}

std::vector<float> row_of(Span<const float> logits) { return {logits.begin(), logits.end()}; }

ChatStep must(const Result<ChatStep>& step) {
  REQUIRE_MESSAGE(step.ok(), step.status().to_string());
  return step.value();
}

GenerateOptions write_tokens(uint64_t count) {
  GenerateOptions options;
  options.max_tokens = count;
  options.stop_at_end = false;
  return options;
}

}  // namespace moka::test
