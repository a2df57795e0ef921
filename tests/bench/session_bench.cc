// What keeping, copying and finding again of sessions and chats costs, with the demo model. Files lie in
// the system's folder for temporary ones.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "moka/chat.h"
#include "moka/model.h"
#include "moka/session.h"

namespace {

// Null, and the benchmark says why, when the model cannot be opened.
const moka::Model* demo_model(benchmark::State& state) {
  static const moka::Result<moka::Model> kModel =
      moka::Model::open(std::string(MOKA_SOURCE_DIR) + "/models/stories.moka");
  if (kModel.ok()) return &kModel.value();
  state.SkipWithError(kModel.status().message().c_str());
  return nullptr;
}

std::string temporary(const char* name) {
  return (std::filesystem::temp_directory_path() / (std::string("moka-bench-") + name)).string();
}

bool worked(benchmark::State& state, const moka::Status& status) {
  if (!status.ok()) state.SkipWithError(status.message().c_str());
  return status.ok();
}

// A session behind 1,000 tokens.
moka::Result<moka::Session> a_session(const moka::Model& model) {
  MOKA_ASSIGN_OR_RETURN(moka::Session session, model.new_session());
  std::vector<moka::TokenId> tokens;
  for (int i = 0; i < 1000; ++i) tokens.push_back(1 + i * 7919 % 4000);
  MOKA_RETURN_IF_ERROR(session.append(tokens));
  return session;
}

enum class Act { kFork, kSave, kRestore, kSaveFile, kRestoreFile };

void session(benchmark::State& state, Act act) {
  const moka::Model* model = demo_model(state);
  if (model == nullptr) return;
  auto made = a_session(*model);
  if (!worked(state, made.status())) return;
  moka::Session& session = made.value();
  const auto bytes = session.save();
  const std::string path = temporary("session");
  if (!worked(state, bytes.status()) || !worked(state, session.save_file(path))) return;
  for (auto _ : state) {
    switch (act) {
      case Act::kFork: worked(state, session.fork().status()); break;
      case Act::kSave: worked(state, session.save().status()); break;
      case Act::kRestore: worked(state, session.restore(bytes.value())); break;
      case Act::kSaveFile: worked(state, session.save_file(path)); break;
      case Act::kRestoreFile: worked(state, session.restore_file(path)); break;
    }
  }
  state.counters["bytes"] = static_cast<double>(bytes.value().size());
  std::remove(path.c_str());
}
BENCHMARK_CAPTURE(session, fork, Act::kFork)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(session, save, Act::kSave)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(session, restore, Act::kRestore)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(session, save_file, Act::kSaveFile)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(session, restore_file, Act::kRestoreFile)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

// A chat of so many exchanges of about 50 tokens, from its file to where its next turn can begin; and
// going back by one exchange, whose state is kept.
enum class ChatAct { kOpen, kUndo };

void chat(benchmark::State& state, ChatAct act) {
  const moka::Model* model = demo_model(state);
  if (model == nullptr) return;
  auto made = moka::Chat::create(*model);
  if (!worked(state, made.status())) return;
  moka::Chat& chat = made.value();
  moka::GenerateOptions writing;
  writing.max_tokens = 30;
  moka::TurnId before = 0, last = 0;
  for (int64_t i = 0; i < state.range(0); ++i) {
    const auto asked =
        chat.append(moka::Role::kUser, "The fox went into the wood, and there he found");
    if (!worked(state, asked.status())) return;
    const auto step = chat.generate(writing);
    if (!worked(state, step.status())) return;
    before = last;
    last = step.value().turn;
  }
  const std::string path = temporary("chat");
  if (!worked(state, chat.save_file(path))) return;
  for (auto _ : state) {
    if (act == ChatAct::kOpen) {
      worked(state, moka::Chat::open_file(*model, path).status());
    } else {
      worked(state, chat.switch_to(before).status());
      worked(state, chat.switch_to(last).status());
    }
  }
  state.counters["bytes"] = static_cast<double>(std::filesystem::file_size(path));
  std::remove(path.c_str());
}
BENCHMARK_CAPTURE(chat, open_file, ChatAct::kOpen)
    ->Arg(2)
    ->Arg(40)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(chat, switch_twice, ChatAct::kUndo)->Arg(40)->Unit(benchmark::kMillisecond);

}  // namespace
