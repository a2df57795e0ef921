// `moka score`, verbs on models of another kind, and `moka inspect` of every kind.
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "moka/moka.h"
#include "nlohmann/json.hpp"
#include "tests/cli_model.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

using Json = nlohmann::json;

// Exit code, what is on stderr to the letter, nothing on stdout.
void check_refused(const ProcessResult& result, int exit_code, const std::string& words) {
  CHECK(result.exit_code == exit_code);
  CHECK(result.out == "");
  CHECK(result.err == words);
}

}  // namespace

TEST_CASE("cli score: totals, contexts, tokens") {
  const TemporaryFolder folder;
  const std::string m = folder / "m.moka";
  write_text_model(m);
  const ProcessResult plain = moka_command({"score", m, "-p", "Hello", "--json"});
  CHECK(plain.exit_code == 0);
  CHECK(plain.err == "");
  const Json json = json_lines(plain.out)[0];
  CHECK(json.at("tokens") == 5);  // the begin of the text stands before the first
  CHECK(json.at("bytes") == 5);
  const double total = json.at("log_likelihood").get<double>();
  CHECK(json.at("per_token").get<double>() == doctest::Approx(total / 5));
  CHECK(json.at("perplexity").get<double>() == doctest::Approx(std::exp(-total / 5)));
  CHECK(json.at("bits_per_byte").get<double>() == doctest::Approx(-total / std::log(2.0) / 5));

  const ProcessResult tokens = moka_command({"score", m, "-p", "Hello", "--json", "--per-token"});
  double sum = 0;
  const Json each = json_lines(tokens.out)[0].at("per_token_scores");
  for (const Json& one : each) sum += one.at("log_likelihood").get<double>();
  CHECK(sum == doctest::Approx(total));
  CHECK(each[4].at("text") == "o");

  // "Hel" and "lo" after it are as likely as "Hello".
  const auto value = [&](const std::vector<std::string>& arguments) {
    std::vector<std::string> all = {"score", m, "--json"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return json_lines(moka_command(all).out)[0].at("log_likelihood").get<double>();
  };
  CHECK(value({"-p", "Hel"}) + value({"--context", "Hel", "-p", "lo"}) ==
        doctest::Approx(total).epsilon(1e-6));
  ProcessOptions input;
  input.input =
      "{\"id\": 3, \"text\": \"lo\", \"context\": \"Hel\"}\n{\"ids\": [258, 72]}\n"
      "{\"ids\": [258]}\n{\"id\": 1}\n{\"text\": \"a\", \"context\": 5}\n";
  const std::vector<Json> lines = json_lines(moka_command({"score", m, "--jsonl"}, input).out);
  REQUIRE(lines.size() == 5);
  CHECK(lines[0].at("log_likelihood").get<double>() ==
        doctest::Approx(value({"--context", "Hel", "-p", "lo"})));
  CHECK(lines[1].at("log_likelihood").get<double>() == doctest::Approx(value({"-p", "H"})));
  CHECK_FALSE(lines[1].contains("bits_per_byte"));
  CHECK(lines[2].at("error") == "\"ids\": one id; its first is not scored, so two are needed");
  CHECK(lines[3].at("error") == "the object has neither \"text\" nor \"ids\"");
  CHECK(lines[4].at("error") == "\"context\": is not a string");

  const ProcessResult page = moka_command({"score", m, "-p", "Hi", "--per-token"});
  CHECK(page.exit_code == 0);
  CHECK(page.out.rfind("log-likelihood", 0) == 0);
  CHECK(contains(page.out, "\"H\""));
  CHECK(contains(page.out, "\nperplexity      "));
  CHECK(contains(page.out, "\nbits per byte   "));
  CHECK(contains(page.out, "\ntokens          2\n"));
}

TEST_CASE("cli score: a text in another encoding is refused by a model that reads words") {
  const std::string stories = std::string(MOKA_SOURCE_DIR) + "/models/stories.moka";
  const TemporaryFolder folder;
  write_file(folder / "utf16.txt", std::string("\xff\xfeO\0n\0c\0e\0", 10));
  check_refused(moka_command({"score", stories, folder / "utf16.txt"}), 1,
                "moka score: " + folder / "utf16.txt" +
                    ": the text is UTF-16; models read UTF-8 (iconv -f UTF-16 -t UTF-8)\n");
  write_file(folder / "empty.txt", "\n");
  check_refused(moka_command({"score", stories, folder / "empty.txt"}), 1,
                "moka score: " + folder / "empty.txt" + ": the text is empty\n");
}

TEST_CASE("cli: a model of another kind is refused with the verb that is for it") {
  const TemporaryFolder folder;
  const std::string text = folder / "text.moka", cls = folder / "cls.moka",
                    emb = folder / "emb.moka", pair = folder / "pair.moka", fc = folder / "fc.moka";
  write_text_model(text);
  write_task_model(cls, classifier_model());
  write_task_model(emb, embedding_model());
  write_task_model(pair, pair_model());
  write_task_model(fc, forecast_model(1, 1, {}));
  write_file(folder / "x", "x");
  const std::string x = folder / "x";
  check_refused(moka_command({"classify", text, x}), 4,
                "moka classify: " + text +
                    ": a language model; `moka classify` needs a "
                    "classifier. `moka run` and `moka score` are for it\n");
  check_refused(moka_command({"score", cls, x}), 4,
                "moka score: " + cls +
                    ": a classifier; `moka score` needs a language model. "
                    "`moka classify` is for it\n");
  check_refused(moka_command({"run", cls, "-p", "x"}), 4,
                "moka run: " + cls +
                    ": a classifier; `moka run` needs a language model. "
                    "`moka classify` is for it\n");
  check_refused(moka_command({"embed", pair, x}), 4,
                "moka embed: " + pair +
                    ": a model that compares two sequences; `moka embed` "
                    "needs an embedding model. `moka compare` is for it\n");
  check_refused(moka_command({"compare", fc, x, x}), 4,
                "moka compare: " + fc +
                    ": a forecaster; `moka compare` needs a model that "
                    "compares two sequences or an embedding model. `moka forecast` is for it\n");
  check_refused(moka_command({"forecast", emb, x}), 4,
                "moka forecast: " + emb +
                    ": an embedding model; `moka forecast` needs a "
                    "forecaster. `moka embed` and `moka compare` are for it\n");
  check_refused(moka_command({"eval", cls, "--text", x}), 4,
                "moka eval: " + cls +
                    ": a classifier; `moka eval` needs a language model. "
                    "`moka classify` is for it\n");
  check_refused(moka_command({"bench", fc, "--repeat", "1"}), 4,
                "moka bench: " + fc +
                    ": a forecaster; `moka bench` needs a language model. "
                    "`moka forecast` is for it\n");
}

TEST_CASE("cli: models that answer from a second text") {
  const TemporaryFolder folder;
  const std::string m = folder / "m.moka", lm = folder / "lm.moka", doc = folder / "doc.txt";
  const TestModel test = memory_model(false);
  write_task_model(m, test);
  write_task_model(lm, memory_model(true));
  write_file(doc, "the document\n");
  Result<Model> opened = Model::from_spec(test.spec);
  REQUIRE_MESSAGE(opened.ok(), opened.status().to_string());
  const std::string text = "the document";
  const std::vector<TokenId> memory(text.begin(), text.end());
  ReadOptions read;
  read.memory = memory;
  const Result<Classification> expected =
      classify(opened.value(), std::vector<TokenId>{'w', 'h', 'y'}, read);
  REQUIRE_MESSAGE(expected.ok(), expected.status().to_string());
  const auto check = [&](const ProcessResult& result) {
    CHECK(result.exit_code == 0);
    REQUIRE(json_lines(result.out).size() == 1);
    const Json json = json_lines(result.out)[0];
    for (size_t i = 0; i < 3; ++i) {
      CHECK(json.at("logits")[i].get<float>() ==
            doctest::Approx(expected.value().logits[i]).epsilon(1e-5));
    }
  };
  check(moka_command({"classify", m, "-p", "why", "--memory", doc, "--json"}));
  ProcessOptions input;
  input.input = "why\n";
  check(moka_command({"classify", m, "--memory", doc, "--json"}, input));  // as a stream
  input.input = "{\"text\": \"why\", \"memory\": \"the document\"}";
  check(moka_command({"classify", m, "--jsonl"}, input));
  input.input = "{\"text\": \"why\"}";
  check(moka_command({"classify", m, "--jsonl", "--memory", doc}, input));
  const ProcessResult without = moka_command({"classify", m, "--jsonl"}, input);
  CHECK(without.exit_code == 1);
  CHECK(json_lines(without.out)[0].at("error") ==
        "the object has no \"memory\", which this model answers from");
  check_refused(moka_command({"classify", m, "-p", "why"}), 2,
                "moka classify: this model answers from a second sequence: give it with --memory\n"
                "Try 'moka classify --help'.\n");
  check_refused(moka_command({"run", lm, "-p", "why"}), 2,
                "moka run: this model answers from a second text: give it with --memory\n"
                "Try 'moka run --help'.\n");
  const std::vector<std::string> write = {"run", lm,   "-p",       "why",
                                          "-n",  "20", "--greedy", "--memory"};
  std::vector<std::string> first = write, second = write;
  first.push_back(doc);
  write_file(folder / "other.txt", "quite another one");
  second.push_back(folder / "other.txt");
  const ProcessResult a = moka_command(first), b = moka_command(second);
  CHECK(a.exit_code == 0);
  CHECK(a.out != b.out);
  CHECK(moka_command({"score", lm, "-p", "why", "--memory", doc}).exit_code == 0);
  CHECK(contains(moka_command({"inspect", lm}).out, "of the memory: latte (bidirectional)"));
}

TEST_CASE("cli inspect: classes, padding, how a model reads, and whether its memory grows") {
  const TemporaryFolder folder;
  const auto inspect = [&](const TestModel& model) {
    write_task_model(folder / "m.moka", model);
    const ProcessResult page = moka_command({"inspect", folder / "m.moka"});
    CHECK(page.exit_code == 0);
    const ProcessResult json = moka_command({"inspect", folder / "m.moka", "--json"});
    CHECK(json.exit_code == 0);
    std::string words;  // without the ends of lines
    std::istringstream stream(page.out);
    for (std::string word; stream >> word;) words += word + " ";
    return std::make_pair(words, Json::parse(json.out));
  };
  const auto [page, json] = inspect(classifier_model());
  CHECK(contains(page,
                 "head classifier, 3 classes (bad, fair, good), mean of all positions, "
                 "without padding (id 256) "));
  CHECK(contains(page, "reads one step at a time (causal), sequences without an end too "));
  CHECK(contains(page, "bytes per session, after any number of tokens"));
  CHECK(json.at("labels") == Json({"bad", "fair", "good"}));
  CHECK(json.at("pad_id") == 256);
  CHECK(json.at("state").at("bytes_per_token") == 0);

  TaskModelOptions ahead;
  ahead.causal = false;
  const auto [whole_page, whole] = inspect(classifier_model(ahead));
  CHECK(contains(whole_page, "reads whole sequences; it sees ahead "));
  CHECK(contains(whole_page, "state none is kept: while a sequence is read, 96 bytes for each"));
  CHECK(whole.at("state").at("whole_sequences") == true);

  const auto [images, image] = inspect(image_model(true));
  CHECK(contains(images, "input tokens, vocabulary of 256: grey levels of images of 4 x 3 "));
  const auto [forecasts, series] = inspect(forecast_model(2, 3, {0.1f, 0.5f, 0.9f}));
  CHECK(contains(forecasts, "input 2 numbers per step "));
  CHECK(contains(forecasts,
                 "head forecast, 2 numbers per step, 3 quantiles (0.1, 0.5, 0.9), 3 "
                 "steps at once "));
  const TestModel softmax = softmax_model();
  Result<Model> opened = Model::from_spec(softmax.spec);
  REQUIRE_MESSAGE(opened.ok(), opened.status().to_string());
  const uint64_t per_token = opened.value().info().state_bytes_per_token;
  CHECK(per_token >= 2 * 2 * 24 * 4);  // keys and values of two layers
  const auto [grows, growing] = inspect(softmax);
  CHECK(
      contains(grows, "state grows: " + std::to_string(per_token) + " bytes for each token read"));
  CHECK(contains(grows, "softmax attention keeps every token "));
  CHECK(growing.at("state").at("bytes_per_token") == per_token);
}

}  // namespace moka::test
