// `moka snapshot`, and the verbs that begin from one or show it.
#include <filesystem>
#include <string>
#include <vector>

#include "converter/writer.h"
#include "doctest/doctest.h"
#include "runtime/loader.h"
#include "tests/checkpoint_builder.h"
#include "tests/cli_model.h"
#include "tests/process.h"

namespace moka::test {
namespace {

using Json = nlohmann::json;

constexpr const char* kText = "You are a patient coach.";

struct Fixture {
  TemporaryFolder folder;
  std::string model = folder / "m.moka";
  Fixture() { write_text_model(model); }

  ProcessResult snapshot(std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin() + 1, model);
    arguments.insert(arguments.begin(), "snapshot");
    ProcessOptions options;
    options.input = input;
    return moka_command(arguments, options);
  }
  void add(const std::string& name = "coach", const std::string& text = kText) const {
    const ProcessResult added = snapshot({"add", "--name", name, "-p", text});
    REQUIRE_MESSAGE(added.exit_code == 0, added.err);
  }
};

void check_failure(const ProcessResult& result, int exit_code, const std::string& words) {
  CHECK_MESSAGE(result.exit_code == exit_code, result.err);
  CHECK_MESSAGE(contains(result.err, words), result.err);
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "cli: snapshot adds, lists and removes") {
  const std::string original = read_file(model);
  check_failure(snapshot({"list"}), 0, "no prefix snapshots");
  write_file(folder / "prompt.txt", std::string(kText) + "\n");
  const ProcessResult added = snapshot({"add", "--name", "coach", "-f", folder / "prompt.txt"});
  CHECK_MESSAGE(added.exit_code == 0, added.err);
  CHECK(added.out == "");
  CHECK_MESSAGE(contains(added.err, "snapshot 'coach': 25 tokens, "), added.err);
  const ProcessResult piped =
      snapshot({"add", "--name", "poet", "-f", "-", "--json"}, "In rhymes.\nAlways.\n");
  const Json json = Json::parse(piped.out);
  CHECK(json["name"] == "poet");
  CHECK(json["tokens"] == 19);

  const Json listed = Json::parse(snapshot({"list", "--json"}).out);
  CHECK(listed["model"] == model);
  REQUIRE(listed["snapshots"].size() == 2);
  CHECK(listed["snapshots"][0]["name"] == "coach");
  CHECK(listed["snapshots"][0]["text"] == kText);
  CHECK(listed["snapshots"][1]["text"] == "In rhymes.\nAlways.");
  CHECK(listed["snapshots"][1]["bytes"] == json["bytes"]);
  CHECK(listed["snapshots"][1]["usable"] == true);
  const ProcessResult table = snapshot({"list"});
  CHECK_MESSAGE(contains(table.out, "In rhymes. Always."), table.out);

  const std::string before = read_file(model);
  check_failure(snapshot({"add", "--name", "coach", "-p", "x"}), 2,
                "has a prefix snapshot 'coach' already; --force replaces it");
  check_failure(snapshot({"remove", "--name", "couch"}), 2,
                "has no prefix snapshot 'couch'; it has: 'coach', 'poet'");
  check_failure(snapshot({"add", "--name", "a\nb", "-p", "x"}), 2, "--name: the name has control");
  check_failure(snapshot({"add", "-p", "x"}), 2, "add: --name is required");
  check_failure(snapshot({"add", "--name", "new"}), 2, "the text is missing");
  check_failure(snapshot({"add", "--name", "new", "-p", ""}), 2, "the text is empty");
  check_failure(snapshot({"add", "--name", "new", "-f", folder / "none"}), 3, "none");
  check_failure(snapshot({"forget", "--name", "coach"}), 2,
                "ACTION: 'forget' is none of add, list, remove");
  check_failure(snapshot({"remove", "--name", "coach", "--force"}), 2, "belong to add, not remove");
  CHECK(read_file(model) == before);

  CHECK(snapshot({"add", "--name", "coach", "-p", "Anew.", "--force"}).exit_code == 0);
  CHECK(Json::parse(snapshot({"list", "--json"}).out)["snapshots"][0]["tokens"] == 6);
  CHECK(snapshot({"remove", "--name", "coach"}).exit_code == 0);
  CHECK(Json::parse(snapshot({"remove", "--name", "poet", "--json"}).out)["removed"] == "poet");
  CHECK(read_file(model) == original);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"m.moka", "prompt.txt"});
}

TEST_CASE_FIXTURE(Fixture, "cli: run --from writes what the whole prompt would have led to") {
  add();
  const std::vector<std::string> how = {"--seed", "3", "-n", "40", "--json", "--threads", "1"};
  const auto run = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"run", model});
    arguments.insert(arguments.end(), how.begin(), how.end());
    const ProcessResult result = moka_command(arguments);
    CHECK_MESSAGE(result.exit_code == 0, result.err);
    return json_lines(result.out);
  };
  // The model reads bytes, so a text may be cut anywhere.
  for (const char* prompt : {"", " How do I begin?"}) {
    const std::vector<Json> whole = run({"-p", std::string(kText) + prompt});
    const std::vector<Json> from = run({"--from", "coach", "-p", prompt});
    REQUIRE(whole.size() == from.size());
    CHECK(from[0]["from"] == "coach");
    CHECK(from[0]["prefix_tokens"] == 25);
    CHECK(from[0]["tokens"] == std::string(prompt).size());
    CHECK(from[0]["text"] == prompt);
    // An end of text begins a new one, from the prefix there and from nothing here.
    for (size_t i = 1; i + 1 < whole.size() && !whole[i].contains("end_of_text"); ++i) {
      CHECK(whole[i] == from[i]);
    }
  }
  check_failure(moka_command({"run", model, "--from", "couch", "-p", "x"}), 2,
                "--from: the model has no prefix snapshot 'couch'; it has: 'coach'");
}

TEST_CASE_FIXTURE(Fixture, "cli: chat --from begins behind the prefix and its file remembers it") {
  add();
  ProcessOptions input;
  input.input = "Hello\n";
  const std::string file = folder / "a.chat";
  const auto chat = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"chat", model, "-n", "8", "--threads", "1", "--json"});
    return moka_command(arguments, input);
  };
  const ProcessResult straight = chat({"--from", "coach", "--seed", "4"});
  CHECK_MESSAGE(straight.exit_code == 0, straight.err);
  const ProcessResult kept = chat({"--from", "coach", "--seed", "4", "--session", file});
  CHECK(kept.out == straight.out);
  CHECK(chat({"--seed", "4"}).out != straight.out);
  CHECK(json_lines(straight.out)[0]["tokens"] == 5);

  CHECK(chat({"--session", file}).exit_code == 0);
  CHECK(chat({"--session", file, "--from", "coach"}).exit_code == 0);
  check_failure(chat({"--session", file, "--from", "poet"}), 3, "prefix snapshot 'poet'");
  check_failure(chat({"--from", "poet"}), 2, "--from: the model has no prefix snapshot 'poet'");
  REQUIRE(snapshot({"remove", "--name", "coach"}).exit_code == 0);
  check_failure(chat({"--session", file}), 3, "the model has no prefix snapshot 'coach'");
}

TEST_CASE_FIXTURE(Fixture, "cli: inspect lists snapshots, verify reads them again") {
  add();
  add("poet", "In rhymes.");
  const ProcessResult page = moka_command({"inspect", model});
  CHECK_MESSAGE(contains(page.out, "coach, 25 tokens, "), page.out);
  const Json json = Json::parse(moka_command({"inspect", model, "--json"}).out);
  REQUIRE(json["snapshots"].size() == 2);
  CHECK(json["snapshots"][1]["name"] == "poet");
  CHECK(json["snapshots"][1]["usable"] == true);

  const ProcessResult verified = moka_command({"verify", model});
  CHECK_MESSAGE(verified.exit_code == 0, verified.err);
  CHECK_MESSAGE(contains(verified.out, "coach: ok, 25 tokens, same bits, made and read with "),
                verified.out);
  ProcessOptions scalar;
  scalar.environment = {{"MOKA_ISA", "scalar"}};
  const ProcessResult elsewhere = moka_command({"verify", model, "--json"}, scalar);
  CHECK_MESSAGE(elsewhere.exit_code == 0, elsewhere.err);
  const Json report = Json::parse(elsewhere.out);
  REQUIRE(report["snapshots"].size() == 2);
  CHECK(report["snapshots"][0]["status"] != "different");
  CHECK(report["snapshots"][0]["difference_percent"].get<double>() <= 1);
  CHECK(report["snapshots"][0]["allowed_percent"].get<double>() == doctest::Approx(1));

  // Another text under the same state.
  auto loaded = load_model_file(model);
  REQUIRE(loaded.ok());
  ModelSpec spec = loaded.value().spec;
  spec.fingerprint = loaded.value().fingerprint;
  spec.prefix_snapshots[1].tokens[3] ^= 1;
  WriteOptions replace;
  replace.replace = true;
  REQUIRE(write_model(model, spec, replace).ok());
  const ProcessResult wrong = moka_command({"verify", model, "--json"});
  check_failure(wrong, 1, "prefix snapshot 'poet' is not what reading its tokens gives here");
  CHECK(Json::parse(wrong.out)["ok"] == false);
  CHECK(Json::parse(wrong.out)["snapshots"][0]["status"] == "same_bits");
  CHECK(Json::parse(wrong.out)["snapshots"][1]["status"] == "different");
}

TEST_CASE("cli: convert --force onto a model with snapshots makes them anew and says so") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "checkpoint");
  small_checkpoint().write(folder / "checkpoint");
  const std::string model = folder / "m.moka";
  const std::vector<std::string> convert = {
      "convert", folder / "checkpoint", "-o", model, "--tokenizer", "bytes", "--force"};
  REQUIRE(moka_command(convert).exit_code == 0);
  REQUIRE(moka_command({"snapshot", "add", model, "--name", "coach", "-p", kText}).exit_code == 0);
  std::vector<std::string> again = convert;
  again.insert(again.end(), {"--weights", "f32"});
  const ProcessResult done = moka_command(again);
  CHECK_MESSAGE(done.exit_code == 0, done.err);
  CHECK_MESSAGE(contains(done.out,
                         "note: prefix snapshots of the old output were made anew with "
                         "the new weights: coach"),
                done.out);
  CHECK(moka_command({"verify", model}).exit_code == 0);
  again.insert(again.end(), {"--tokenizer", "none"});
  again.erase(again.begin() + 4, again.begin() + 6);
  check_failure(moka_command(again), 4, "prefix snapshot 'coach'");
  CHECK(moka_command({"verify", model}).exit_code == 0);
}

}  // namespace moka::test
