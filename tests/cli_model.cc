#include "tests/cli_model.h"

#include <sstream>

#include "converter/tokenizer_json.h"
#include "converter/writer.h"
#include "doctest/doctest.h"
#include "moka/moka.h"

namespace moka::test {

ProcessResult moka_command(std::vector<std::string> arguments, const ProcessOptions& options) {
  arguments.insert(arguments.begin(), MOKA_COMMAND);
  ProcessResult result = run_process(arguments, options);
  CHECK_FALSE(result.timed_out);
  return result;
}

std::vector<nlohmann::json> json_lines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

TestModel text_model(bool right_test_vector) {
  TestModelOptions options;
  options.vocab_size = 260;
  TestModel model = make_test_model(options);
  model.spec.tokenizer = bytes_tokenizer_spec();
  model.spec.metadata.name = "cli test";
  model.spec.metadata.license = "Apache-2.0";
  model.spec.metadata.sampling = SamplerOptions{};
  model.spec.metadata.sampling->temperature = 0.7f;

  const std::vector<TokenId> prompt = {258, 72, 105};
  Result<Model> opened = Model::from_spec(model.spec);
  REQUIRE_MESSAGE(opened.ok(), opened.status().to_string());
  Result<Session> session = opened.value().new_session();
  REQUIRE(session.ok());
  REQUIRE(session.value().append(prompt).ok());
  SamplerOptions greedy;
  greedy.temperature = 0.0f;
  Result<Sampler> sampler = Sampler::create(greedy, 260);
  REQUIRE(sampler.ok());
  TestVector test{prompt, {}};
  for (int i = 0; i < 6; ++i) {
    Result<TokenId> id = session.value().step(sampler.value());
    REQUIRE(id.ok());
    test.expected.push_back(id.value());
  }
  if (!right_test_vector) test.expected[3] = (test.expected[3] + 1) % 260;
  model.spec.test_vector = test;
  return model;
}

void write_text_model(const std::string& path, bool right_test_vector) {
  const TestModel model = text_model(right_test_vector);
  const Status status = write_model(path, model.spec);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
}

}  // namespace moka::test
