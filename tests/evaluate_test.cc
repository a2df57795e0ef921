// The rule by which texts are cut, scored and compared.
#include "converter/evaluate.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "moka/moka.h"
#include "tests/checkpoint_builder.h"
#include "tests/process.h"
#include "tests/spec_builder.h"

namespace moka {
namespace {

using test::TemporaryFolder;
using test::write_file;

constexpr TokenId kBos = 258, kEos = 259;  // of the tokenizer of bytes

struct Documents {
  std::vector<std::string> texts;
  std::vector<bool> ended;
};

Documents cut(const std::string& text) {
  const TemporaryFolder folder;
  write_file(folder / "text", text);
  auto reader = DocumentReader::open(folder / "text");
  REQUIRE(reader.ok());
  Documents all;
  DocumentReader::Document document;
  while (true) {
    const auto more = reader.value().next(&document);
    REQUIRE(more.ok());
    if (!more.value()) break;
    all.texts.push_back(document.text);
    all.ended.push_back(document.ended);
  }
  CHECK(reader.value().bytes_read() == text.size());
  return all;
}

TEST_CASE("evaluate: documents end at lines that are exactly the separator") {
  using Texts = std::vector<std::string>;
  using Flags = std::vector<bool>;
  const auto check = [](const std::string& text, const Texts& texts, const Flags& ended) {
    CAPTURE(text);
    const Documents found = cut(text);
    CHECK(found.texts == texts);
    CHECK(found.ended == ended);
  };
  check("", {}, {});
  check("a", {"a"}, {false});
  check("a\n", {"a\n"}, {false});
  check("a\n<|endoftext|>\nb\n", {"a\n", "b\n"}, {true, false});
  check("a\n<|endoftext|>\n", {"a\n"}, {true});
  check("a\n<|endoftext|>", {"a\n"}, {true});
  check("<|endoftext|>\n<|endoftext|>\nb", {"", "", "b"}, {true, true, false});
  check("\n<|endoftext|>\n\n", {"\n", "\n"}, {true, false});
  check("a <|endoftext|>\nb", {"a <|endoftext|>\nb"}, {false});
  check("<|endoftext|> \nb", {"<|endoftext|> \nb"}, {false});
  check("<|endoftext|>x", {"<|endoftext|>x"}, {false});
  check("a<|endoftext|>", {"a<|endoftext|>"}, {false});
}

TEST_CASE("evaluate: separators at the edges of blocks are found") {
  const std::string separator = "<|endoftext|>\n";
  constexpr size_t kBlock = 1 << 18;  // DocumentReader reads that much at once
  for (size_t shift = 0; shift <= separator.size() + 1; ++shift) {
    const std::string first(kBlock - shift, 'x');
    const Documents found = cut(first + "\n" + separator + "y");
    REQUIRE(found.texts.size() == 2);
    CHECK(found.texts[0] == first + "\n");
    CHECK(found.texts[1] == "y");
  }
}

TEST_CASE("evaluate: the likelihood is that of a softmax, also of large scores") {
  const float even[] = {3.0f, 3.0f, 3.0f, 3.0f};
  CHECK(negative_log_likelihood(even, 4, 2) == doctest::Approx(std::log(4.0)));
  const float far[] = {1e30f, 0.0f};
  CHECK(negative_log_likelihood(far, 2, 0) == 0.0);
  CHECK(negative_log_likelihood(far, 2, 1) == doctest::Approx(1e30));
  const float some[] = {1.0f, 2.0f, -1.0f};
  const double sum = std::exp(1.0) + std::exp(2.0) + std::exp(-1.0);
  CHECK(negative_log_likelihood(some, 3, 0) == doctest::Approx(std::log(sum) - 1.0));
}

Model bytes_model(const test::TestModel& model) {
  OpenOptions options;
  options.executor.threads = 1;
  auto opened = Model::from_spec(model.spec, options);
  CAPTURE(opened.status().message());
  REQUIRE(opened.ok());
  return opened.value();
}

test::TestModel bytes_test_model(DType weights = DType::kF32) {
  test::TestModelOptions options;
  options.vocab_size = 260;
  options.bytes_tokenizer = true;
  options.positions = PositionKind::kNone;
  options.weights = weights;
  return test::make_test_model(options);
}

// Scores `ids` after `first` one by one, as plainly as possible.
double plain_nll(const Model& model, const std::vector<TokenId>& ids) {
  auto session = model.new_session();
  REQUIRE(session.ok());
  double nll = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    REQUIRE(session.value().append(Span<const TokenId>(&ids[i], 1)).ok());
    const Span<const float> logits = session.value().logits();
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x));
    nll += std::log(sum) - logits[static_cast<size_t>(ids[i + 1])];
  }
  return nll;
}

std::vector<TokenId> with_ends(const std::string& text, bool ended) {
  std::vector<TokenId> ids = {kBos};
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  if (ended) ids.push_back(kEos);
  return ids;
}

TEST_CASE("evaluate: every token is scored after all before it, and eos where a separator is") {
  const test::TestModel source = bytes_test_model();
  const Model model = bytes_model(source);
  const TemporaryFolder folder;
  std::string longer;  // several chunks and pieces
  for (int i = 0; i < 60; ++i) longer += "line " + std::to_string(i) + "\n";
  write_file(folder / "text",
             "One.\n<|endoftext|>\n" + longer + "<|endoftext|>\n<|endoftext|>\nEnd");
  uint64_t last = 0;
  const auto result = evaluate_text(model, folder / "text", [&](uint64_t done, uint64_t total) {
    CHECK(done >= last);
    CHECK(done <= total);
    last = done;
    return true;
  });
  CAPTURE(result.status().message());
  REQUIRE(result.ok());
  const double expected =
      plain_nll(model, with_ends("One.\n", true)) + plain_nll(model, with_ends(longer, true)) +
      plain_nll(model, with_ends("", true)) + plain_nll(model, with_ends("End", false));
  const Evaluation& e = result.value();
  CHECK(e.nll == doctest::Approx(expected).epsilon(1e-5));
  CHECK(e.documents == 4);
  CHECK(e.text_bytes == 5 + longer.size() + 3);
  CHECK(e.tokens == e.text_bytes + 3);
  CHECK(e.bits_per_byte() ==
        doctest::Approx(expected / std::log(2.0) / static_cast<double>(e.text_bytes)));
  CHECK(e.perplexity() == doctest::Approx(std::exp(expected / static_cast<double>(e.tokens))));
  CHECK(last == 18 + 1 + longer.size() + 28 + 3);
}

TEST_CASE("evaluate: a comparison is the divergence of every row") {
  const test::TestModel exact = bytes_test_model(), rounded = bytes_test_model(DType::kF16);
  const Model reference = bytes_model(exact), stored = bytes_model(rounded);
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>('a' + i * 7 % 26);
  write_file(folder / "text", text);
  const auto result = compare_on_text(reference, stored, folder / "text");
  REQUIRE(result.ok());
  const Comparison& c = result.value();

  const std::vector<TokenId> ids = with_ends(text, false);
  auto p_session = reference.new_session(), q_session = stored.new_session();
  double kl_sum = 0, kl_max = 0;
  size_t agreed = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    REQUIRE(p_session.value().append(Span<const TokenId>(&ids[i], 1)).ok());
    REQUIRE(q_session.value().append(Span<const TokenId>(&ids[i], 1)).ok());
    const Span<const float> p = p_session.value().logits(), q = q_session.value().logits();
    double kl = 0;
    size_t best_p = 0, best_q = 0;
    for (size_t t = 0; t < p.size(); ++t) {
      const double log_p = -negative_log_likelihood(p.data(), p.size(), t);
      const double log_q = -negative_log_likelihood(q.data(), q.size(), t);
      kl += std::exp(log_p) * (log_p - log_q);
      if (p[t] > p[best_p]) best_p = t;
      if (q[t] > q[best_q]) best_q = t;
    }
    kl_sum += kl;
    kl_max = std::max(kl_max, kl);
    agreed += best_p == best_q ? 1 : 0;
  }
  CHECK(c.stored.tokens == 100);
  CHECK(c.reference.tokens == 100);
  CHECK(kl_sum > 0);
  CHECK(c.kl_mean == doctest::Approx(kl_sum / 100).epsilon(0.02));
  CHECK(c.kl_max == doctest::Approx(kl_max).epsilon(0.02));
  CHECK(c.argmax_agreement == doctest::Approx(static_cast<double>(agreed) / 100));
  CHECK(c.reference.nll == doctest::Approx(plain_nll(reference, ids)).epsilon(1e-5));
  CHECK(c.stored.nll == doctest::Approx(plain_nll(stored, ids)).epsilon(1e-5));

  const auto same = compare_on_text(reference, reference, folder / "text");
  REQUIRE(same.ok());
  CHECK(same.value().kl_max < 1e-12);
  CHECK(same.value().argmax_agreement == 1.0);
}

TEST_CASE("evaluate: a comparison may end after so many tokens") {
  const test::TestModel exact = bytes_test_model(), rounded = bytes_test_model(DType::kF16);
  const Model reference = bytes_model(exact), stored = bytes_model(rounded);
  const TemporaryFolder folder;
  const std::string first = "The first of two.\n", second = "And the second.\n";
  write_file(folder / "text", first + "<|endoftext|>\n" + second);
  write_file(folder / "cut", first + "<|endoftext|>\n" + second.substr(0, 4));
  const auto all = compare_on_text(reference, stored, folder / "text");
  REQUIRE(all.ok());
  for (const uint64_t tokens : {uint64_t{1}, uint64_t{first.size()}, uint64_t{first.size() + 5},
                                all.value().stored.tokens, uint64_t{1000}}) {
    const auto some = compare_on_text(reference, stored, folder / "text", {}, tokens);
    REQUIRE(some.ok());
    CHECK(some.value().stored.tokens == std::min(tokens, all.value().stored.tokens));
    CHECK(some.value().reference.tokens == some.value().stored.tokens);
    if (tokens == first.size() + 5) {  // with the eos of the first: four bytes of the second
      const auto cut = compare_on_text(reference, stored, folder / "cut");
      REQUIRE(cut.ok());
      CHECK(some.value().kl_mean == cut.value().kl_mean);
      CHECK(some.value().stored.nll == cut.value().stored.nll);
    }
    if (tokens >= all.value().stored.tokens) CHECK(some.value().kl_mean == all.value().kl_mean);
  }
}

TEST_CASE("evaluate: what cannot be measured is refused") {
  const TemporaryFolder folder;
  write_file(folder / "text", "some text");
  write_file(folder / "empty", "<|endoftext|>\n");
  const test::TestModel source = bytes_test_model();
  const Model model = bytes_model(source);
  const auto fails = [](const Model& m, const std::string& path, StatusCode code,
                        const std::string& message, const EvaluateProgress& progress = {}) {
    const Status one = evaluate_text(m, path, progress).status();
    const Status two = compare_on_text(m, m, path, progress).status();
    CAPTURE(one.message());
    CHECK(one.code() == code);
    CHECK(one.message().find(message) != std::string::npos);
    CHECK(two.code() == code);
    CHECK(two.message() == one.message());
  };
  fails(model, folder / "none", StatusCode::kNotFound, "none");
  fails(model, folder / "empty", StatusCode::kInvalidArgument, "has no text");
  fails(model, folder / "text", StatusCode::kCancelled, "cancelled",
        [](uint64_t, uint64_t) { return false; });

  test::TestModel silent = source;
  silent.spec.tokenizer.reset();
  fails(bytes_model(silent), folder / "text", StatusCode::kFailedPrecondition, "has no tokenizer");
  test::TestModel endless = source;
  endless.spec.tokenizer->bos_id = endless.spec.tokenizer->eos_id = -1;
  fails(bytes_model(endless), folder / "text", StatusCode::kFailedPrecondition,
        "neither bos nor eos");
  test::TestModel limited = source;
  limited.spec.positions.kind = PositionKind::kSinusoidal;
  limited.spec.positions.max_length = 8;
  fails(bytes_model(limited), folder / "text", StatusCode::kOutOfRange,
        "document 1: has 9 tokens, the model reads at most 8");

  test::TestModelOptions other;
  other.vocab_size = 261;
  const test::TestModel larger = test::make_test_model(other);
  const Status status = compare_on_text(model, bytes_model(larger), folder / "text").status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("260 and 261 ids") != std::string::npos);
}

}  // namespace
}  // namespace moka
