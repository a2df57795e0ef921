// Prefix snapshots in model files: the bits of reading, files that stay what they were, and refusals.
#include "converter/snapshot.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "converter/convert.h"
#include "converter/tokenizer_json.h"
#include "converter/writer.h"
#include "doctest/doctest.h"
#include "moka/moka.h"
#include "runtime/loader.h"
#include "runtime/snapshots.h"
#include "tests/checkpoint_builder.h"
#include "tests/process.h"
#include "tests/session_testing.h"
#include "tests/spec_builder.h"
#include "tests/task_models.h"

namespace moka {
namespace {

using test::names_in;
using test::read_file;
using test::require_ok;
using test::saved;
using test::TemporaryFolder;
using test::TestModel;
using test::write_file;

constexpr const char* kText =
    "You are a patient coach. Answer in one sentence, and ask one question.";

TestModel text_model(DType weights = DType::kF32, uint64_t seed = 1) {
  test::TestModelOptions options;
  options.vocab_size = 260;
  options.weights = weights;
  options.seed = seed;
  options.bytes_tokenizer = true;
  return make_test_model(options);
}

Model open(const std::string& path, int threads = 1, const char* isa = nullptr) {
  OpenOptions options;
  options.executor.threads = threads;
  options.isa = isa;
  auto model = Model::open(path, options);
  REQUIRE_MESSAGE(model.ok(), model.status().to_string());
  return std::move(model).value();
}

void add(const std::string& path, const std::string& name, const std::string& text,
         bool replace = false) {
  SnapshotOptions options;
  options.replace = replace;
  options.threads = 1;
  require_ok(add_snapshot(path, {name, text}, options).status());
}

// A session that reads the tokens of the snapshot.
Session reading(const Model& model, const std::string& name) {
  const PrefixSnapshot* snapshot = find_snapshot(model.spec(), name);
  REQUIRE(snapshot != nullptr);
  auto session = model.new_session();
  REQUIRE(session.ok());
  require_ok(session.value().append(snapshot->tokens));
  return std::move(session).value();
}

Session beginning(const Model& model, const std::string& name) {
  auto session = model.new_session_from(name);
  REQUIRE_MESSAGE(session.ok(), session.status().to_string());
  return std::move(session).value();
}

struct File {
  TemporaryFolder folder;
  std::string path = folder / "m.moka";
  explicit File(const TestModel& model = text_model()) { write_task_model(path, model); }

  // Changes the snapshots of the file as a writer would that knows nothing of what they mean.
  template <class Change>
  void rewrite(const Change& change) const {
    auto loaded = load_model_file(path);
    REQUIRE(loaded.ok());
    ModelSpec spec = loaded.value().spec;
    spec.fingerprint = loaded.value().fingerprint;
    change(&spec);
    WriteOptions options;
    options.replace = true;
    require_ok(write_model(path, spec, options));
  }
};

// ---- bits ------------------------------------------------------------------------------------

TEST_CASE("snapshot: a session from it has the bits of one that read the prefix") {
  const std::pair<const char*, TestModel> kinds[] = {{"float32", text_model()},
                                                     {"float16", text_model(DType::kF16)},
                                                     {"int8", text_model(DType::kI8)},
                                                     {"softmax", test::softmax_model()},
                                                     {"classifier", test::classifier_model()}};
  std::string text;  // longer than a chunk, which is 128 tokens
  while (text.size() < 300) text += kText;
  for (const auto& kind : kinds) {
    CAPTURE(kind.first);
    const auto& made = kind.second;
    const File file(made);
    const uint64_t fingerprint = open(file.path).info().fingerprint;
    add(file.path, "coach", text);
    for (const int threads : {1, 3}) {
      const Model model = open(file.path, threads);
      REQUIRE(model.info().snapshots.size() == 1);
      CHECK(model.info().snapshots[0].name == "coach");
      CHECK(model.info().snapshots[0].tokens >= text.size());
      CHECK(model.info().fingerprint == fingerprint);
      Session from = beginning(model, "coach");
      Session read = reading(model, "coach");
      CHECK(from.position() == model.info().snapshots[0].tokens);
      CHECK(saved(from) == saved(read));
      CHECK(model.info().snapshots[0].bytes == saved(from).size());
      const std::vector<TokenId> more = {70, 105, 120};
      require_ok(from.append(more));
      require_ok(read.append(more));
      CHECK(saved(from) == saved(read));
      auto check = check_snapshot(model, model.spec().prefix_snapshots[0]);
      REQUIRE(check.ok());
      CHECK(check.value().same_bits);
      CHECK(check.value().difference == 0);
    }
    const Model scalar = open(file.path, 1, "scalar");
    auto check = check_snapshot(scalar, scalar.spec().prefix_snapshots[0]);
    REQUIRE(check.ok());
    CHECK_MESSAGE(check.value().ok(), check.value().difference);
    CHECK(check.value().tolerance == (std::string(kind.first) == "int8" ? 0.1 : 0.01));
  }
}

TEST_CASE("snapshot: a state that other tokens lead to does not pass for that of its own") {
  const File file;
  add(file.path, "coach", kText);
  file.rewrite([](ModelSpec* spec) { spec->prefix_snapshots[0].tokens[20] ^= 1; });
  const Model model = open(file.path);
  const auto check = check_snapshot(model, model.spec().prefix_snapshots[0]);
  REQUIRE(check.ok());
  CHECK_FALSE(check.value().same_bits);
  CHECK_MESSAGE(check.value().difference > 0.01, check.value().difference);
  CHECK_FALSE(check.value().ok());
}

TEST_CASE("snapshot: rows of output are compared by their scale") {
  const auto far = [](const std::vector<float>& found, const std::vector<float>& expected,
                      bool scores) { return relative_rms(found, expected, scores); };
  CHECK(far({3, 4}, {3, 4}, false) == 0);
  CHECK(far({3.3f, 4}, {3, 4}, false) == doctest::Approx(0.06));
  CHECK(far({330, 400}, {300, 400}, false) == doctest::Approx(0.06));
  // A number added to all scores changes nothing; added to values it does.
  CHECK(far({8, 6}, {3, 1}, true) == 0);
  CHECK(far({8, 6}, {3, 1}, false) == doctest::Approx(std::sqrt(5.0)));
  // Without means: 0.1, -0.1 over 1, -1.
  CHECK(far({103.1f, 100.9f}, {103, 101}, true) == doctest::Approx(0.1).epsilon(1e-4));
  CHECK(far({}, {}, true) == 0);
  CHECK(far({5, 5}, {7, 7}, true) == 0);
  CHECK(far({5, 6}, {7, 7}, true) == HUGE_VAL);
  CHECK(far({1, 0}, {0, 0}, false) == HUGE_VAL);
  CHECK(far({1}, {1, 1}, false) == HUGE_VAL);
  CHECK(far({NAN, 1}, {1, 1}, false) == HUGE_VAL);
  CHECK(far({NAN, 1}, {NAN, 1}, true) == HUGE_VAL);
  CHECK(far({1, INFINITY}, {1, INFINITY}, false) == HUGE_VAL);
}

TEST_CASE("snapshot: large scores that differ by their rounding pass with other kernels") {
  TestModel made = text_model(DType::kI8);
  // The last norm of the model scales the scores, and with them what they differ by: some 10 here.
  const Tensor& scale = made.spec.tensors[made.spec.final_norm.scale];
  auto* numbers = const_cast<float*>(static_cast<const float*>(scale.data));
  for (uint64_t i = 0; i < scale.elements(); ++i) numbers[i] *= 1e7f;
  const File file(made);
  std::string text;
  while (text.size() < 1500) text += kText;
  add(file.path, "coach", text);
  const Model scalar = open(file.path, 1, "scalar");
  const auto check = check_snapshot(scalar, scalar.spec().prefix_snapshots[0]);
  REQUIRE(check.ok());
  CHECK_MESSAGE(check.value().ok(), check.value().difference);
  CHECK(check.value().difference < 1e-3);
}

// ---- files -----------------------------------------------------------------------------------

TEST_CASE("snapshot: adding and removing keep weights, fingerprint and saved sessions") {
  const File file;
  const std::string original = read_file(file.path);
  std::vector<uint8_t> session;
  {
    const Model model = open(file.path);
    auto fresh = model.new_session();
    require_ok(fresh.value().append(std::vector<TokenId>{1, 2, 3}));
    session = saved(fresh.value());
  }
  add(file.path, "coach", kText);
  add(file.path, "\xc3\xa9t\xc3\xa9", "Summer.");
  add(file.path, "third", "Third time.");
  const auto check_file = [&](const std::vector<std::string>& names) {
    const auto loaded = load_model_file(file.path);
    REQUIRE_MESSAGE(loaded.ok(), loaded.status().to_string());
    require_ok(verify_data(loaded.value(), file.path));
    const auto before = [&] {
      write_file(file.folder / "before.moka", original);
      return load_model_file(file.folder / "before.moka");
    }();
    CHECK(loaded.value().fingerprint == before.value().fingerprint);
    const ModelSpec& a = loaded.value().spec;
    const ModelSpec& b = before.value().spec;
    REQUIRE(a.tensors.size() == b.tensors.size());
    for (size_t i = 0; i < a.tensors.size(); ++i) {
      const auto offset = [](const LoadedModel& model, const void* p) {
        return static_cast<const uint8_t*>(p) - model.bytes.data() -
               static_cast<std::ptrdiff_t>(model.data_start);
      };
      CHECK(offset(loaded.value(), a.tensors[i].data) == offset(before.value(), b.tensors[i].data));
      CHECK(std::memcmp(a.tensors[i].data, b.tensors[i].data, a.tensors[i].size) == 0);
    }
    REQUIRE(a.prefix_snapshots.size() == names.size());
    const Model model = open(file.path);
    for (size_t i = 0; i < names.size(); ++i) {
      CHECK(a.prefix_snapshots[i].name == names[i]);
      CHECK(saved(beginning(model, names[i])) == saved(reading(model, names[i])));
    }
    auto old = model.new_session();
    CHECK(old.value().restore(session).ok());
    REQUIRE(names_in(file.folder.path()) == std::vector<std::string>{"before.moka", "m.moka"});
  };
  check_file({"coach", "\xc3\xa9t\xc3\xa9", "third"});
  add(file.path, "coach",
      "Another text, longer than the one before it was, by far and away, "
      "and longer again.",
      true);
  check_file({"coach", "\xc3\xa9t\xc3\xa9", "third"});
  require_ok(remove_snapshot(file.path, "\xc3\xa9t\xc3\xa9"));
  check_file({"coach", "third"});
  require_ok(remove_snapshot(file.path, "coach"));
  check_file({"third"});
  require_ok(remove_snapshot(file.path, "third"));
  CHECK(read_file(file.path) == original);
}

TEST_CASE("snapshot: a refused or cancelled change leaves the file and nothing beside it") {
  const File file;
  add(file.path, "coach", kText);
  const std::string before = read_file(file.path);
  const auto refused = [&](const SnapshotText& text, StatusCode code, const std::string& words) {
    const Status status = add_snapshot(file.path, text, {}).status();
    CHECK_MESSAGE(status.code() == code, status.to_string());
    CHECK_MESSAGE(status.message().find(words) != std::string::npos, status.message());
  };
  refused({"coach", "x"}, StatusCode::kFailedPrecondition,
          file.path + ": has a prefix snapshot 'coach' already; --force replaces it");
  refused({"", "x"}, StatusCode::kInvalidArgument, "the name has 0 bytes, expected 1 to 64");
  refused({std::string(65, 'n'), "x"}, StatusCode::kInvalidArgument, "the name has 65 bytes");
  refused({"a\nb", "x"}, StatusCode::kInvalidArgument, "the name has control characters");
  refused({"a\xc2\x85", "x"}, StatusCode::kInvalidArgument, "the name has control characters");
  refused({"a\xff", "x"}, StatusCode::kInvalidArgument, "the name is not UTF-8");
  refused({"new", ""}, StatusCode::kInvalidArgument, "the text is empty");
  refused({"new", std::string((size_t{1} << 20) + 1, 'x')}, StatusCode::kOutOfRange,
          "the text has 1048577 bytes, at most 1048576");
  SnapshotOptions cancelled;
  cancelled.progress = [](uint64_t, uint64_t) { return false; };
  CHECK(add_snapshot(file.path, {"new", kText}, cancelled).status().code() ==
        StatusCode::kCancelled);
  const Status missing = remove_snapshot(file.path, "poet");
  CHECK(missing.code() == StatusCode::kNotFound);
  CHECK(missing.message() == file.path + ": has no prefix snapshot 'poet'; it has: 'coach'");
  CHECK(read_file(file.path) == before);
  CHECK(names_in(file.folder.path()) == std::vector<std::string>{"m.moka"});

  // Damage is found before anything is written.
  std::string damaged = before;
  damaged[damaged.size() - 200] ^= 1;
  write_file(file.path, damaged);
  CHECK(add_snapshot(file.path, {"new", kText}, {}).status().code() == StatusCode::kCorrupt);
  CHECK(read_file(file.path) == damaged);
}

TEST_CASE("snapshot: models that cannot have one say why") {
  const std::pair<TestModel, const char*> cases[] = {
      {test::memory_model(true), "this model answers from a second sequence"},
      {test::forecast_model(2, 3, {}), "this model has no tokenizer"},
      {test::pair_model(), "this model "},
      {test::linformer_model(64), "this model sees ahead"}};
  for (const auto& [model, words] : cases) {
    const File file(model);
    const std::string before = read_file(file.path);
    const Status status = add_snapshot(file.path, {"coach", kText}, {}).status();
    CHECK_MESSAGE(status.code() == StatusCode::kUnsupported, status.to_string());
    CHECK_MESSAGE(status.message().find(words) != std::string::npos, status.message());
    CHECK(read_file(file.path) == before);
  }
  test::TaskModelOptions options;
  options.position_limit = 8;
  const File file(test::classifier_model(options));
  const Status status = add_snapshot(file.path, {"coach", kText}, {}).status();
  CHECK_MESSAGE(status.code() == StatusCode::kOutOfRange, status.to_string());
  CHECK_MESSAGE(status.message().find("prefix snapshot 'coach': the text has ") == 0,
                status.message());
}

// ---- what is refused when it is used ----------------------------------------------------------

TEST_CASE("snapshot: a name that is not there, and one made with other weights, are refused") {
  const File file;
  add(file.path, "coach", kText);
  add(file.path, "poet", "In rhymes.");
  {
    const Model model = open(file.path);
    const Status missing = model.new_session_from("couch").status();
    CHECK(missing.code() == StatusCode::kNotFound);
    CHECK(missing.message() == "the model has no prefix snapshot 'couch'; it has: 'coach', 'poet'");
    CHECK(model.new_session_from("a\nb").status().message() ==
          "the model has no prefix snapshot of such a name; it has: 'coach', 'poet'");
  }
  const TestModel other = text_model(DType::kF32, 2);
  file.rewrite([&other](ModelSpec* spec) {
    for (size_t i = 0; i < spec->tensors.size(); ++i) spec->tensors[i] = other.spec.tensors[i];
  });
  const Model model = open(file.path);  // the model itself is well
  CHECK(model.new_session().ok());
  const Status stale = model.new_session_from("coach").status();
  CHECK(stale.code() == StatusCode::kFailedPrecondition);
  CHECK(stale.message() ==
        "prefix snapshot 'coach': it was made with other weights than this model has; make it anew "
        "with `moka snapshot add --force`");
  CHECK(check_snapshot(model, model.spec().prefix_snapshots[0]).status().code() ==
        StatusCode::kFailedPrecondition);
  // Adding another one does not make it good.
  add(file.path, "third", kText);
  CHECK(open(file.path).new_session_from("coach").status().code() ==
        StatusCode::kFailedPrecondition);
  add(file.path, "coach", kText, true);
  CHECK(open(file.path).new_session_from("coach").ok());
}

TEST_CASE("snapshot: a damaged or foreign state is refused and the session stays as it was") {
  const File file;
  add(file.path, "coach", kText);
  const std::string good = read_file(file.path);
  const size_t state = good.find("MOKASTAT");
  REQUIRE(state != std::string::npos);
  const auto refused = [&](StatusCode code, const std::string& words) {
    const Model model = open(file.path);
    auto session = model.new_session();
    require_ok(session.value().append(std::vector<TokenId>{7, 8, 9}));
    const std::vector<uint8_t> before = saved(session.value());
    const Status status = session.value().restore_snapshot("coach");
    CHECK_MESSAGE(status.code() == code, status.to_string());
    CHECK_MESSAGE(status.message().find("prefix snapshot 'coach': " + words) == 0,
                  status.message());
    CHECK(saved(session.value()) == before);
    CHECK(model.new_session_from("coach").status().code() == code);
  };
  const size_t size = load_model_file(file.path).value().spec.prefix_snapshots[0].size;
  for (size_t at = 0; at < size; at += 97) {
    std::string damaged = good;
    damaged[state + at] ^= 4;
    write_file(file.path, damaged);
    const Model model = open(file.path);
    CHECK(model.new_session_from("coach").status().code() != StatusCode::kOk);
    CHECK(verify_data(load_model_file(file.path).value(), file.path).code() ==
          StatusCode::kCorrupt);
  }
  write_file(file.path, good);
  // A right state of this model, but not behind this prefix.
  std::vector<uint8_t> elsewhere;
  {
    const Model model = open(file.path);
    auto session = model.new_session();
    require_ok(session.value().append(std::vector<TokenId>{1, 2}));
    elsewhere = saved(session.value());
  }
  file.rewrite([&elsewhere](ModelSpec* spec) {
    spec->prefix_snapshots[0].data = elsewhere.data();
    spec->prefix_snapshots[0].size = elsewhere.size();
  });
  refused(StatusCode::kCorrupt, "saved session: it is at position 2, expected ");
  write_file(file.path, good);
  file.rewrite([](ModelSpec* spec) { spec->fingerprint ^= 1; });
  refused(StatusCode::kFailedPrecondition, "saved session: it belongs to another model");
  write_file(file.path, good);
  file.rewrite([](ModelSpec* spec) { spec->prefix_snapshots[0].tokens.clear(); });
  refused(StatusCode::kFailedPrecondition, "it does not say which tokens were read");
}

TEST_CASE("snapshot: the header's snapshots are bounded") {
  const TestModel made = text_model();
  static const uint8_t kState[16] = {1};
  PrefixSnapshot good;
  good.name = "coach";
  good.text = "ab";
  good.tokens = {258, 97, 98};
  good.position = 3;
  good.data = kState;
  good.size = sizeof kState;
  using Change = void (*)(PrefixSnapshot*);
  const std::pair<Change, const char*> cases[] = {
      {[](PrefixSnapshot* s) { s->name = std::string(65, 'x'); },
       "prefix snapshot 1: the name has 65 bytes, expected 1 to 64"},
      {[](PrefixSnapshot* s) { s->name = "first"; },
       "prefix snapshot 'first': the name is there twice"},
      {[](PrefixSnapshot* s) { s->name = "\xe2\x82"; }, "prefix snapshot 1: the name is not UTF-8"},
      {[](PrefixSnapshot* s) { s->position = 4; },
       "prefix snapshot 'coach': it is at position 4 and has 3 tokens"},
      {[](PrefixSnapshot* s) { s->tokens[1] = 260; },
       "prefix snapshot 'coach': tokens has id 260, but the vocabulary has 260 ids"},
      {[](PrefixSnapshot* s) { s->tokens[1] = -1; }, "prefix snapshot 'coach': tokens has id -1"},
      {[](PrefixSnapshot* s) { s->text = std::string((1u << 20) + 1, 'x'); },
       "prefix snapshot 'coach': length of the text is 1048577, expected 0 to 1048576"},
      {[](PrefixSnapshot* s) { s->chunk = (1u << 20) + 1; },
       "prefix snapshot 'coach': chunk is 1048577, expected 0 to 1048576"},
      {[](PrefixSnapshot* s) { s->isa = std::string(65, 'x'); },
       "prefix snapshot 'coach': isa: the name has 65 bytes, expected 1 to 64"}};
  ModelSpec spec = made.spec;
  spec.prefix_snapshots = {good, good};
  spec.prefix_snapshots[0].name = "first";
  require_ok(check_spec(spec, "x"));
  for (const auto& [change, words] : cases) {
    spec.prefix_snapshots[1] = good;
    change(&spec.prefix_snapshots[1]);
    const Status status = check_spec(spec, "x");
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK_MESSAGE(status.message().find(std::string("x: ") + words) == 0, status.message());
  }
  // What the checks let pass, but no session is.
  spec.prefix_snapshots = {good};
  const auto bytes = write_model_to_memory(spec);
  REQUIRE(bytes.ok());
  const auto model = Model::open_memory(bytes.value().bytes());
  REQUIRE(model.ok());
  CHECK(model.value().new_session_from("coach").status().code() ==
        StatusCode::kFailedPrecondition);  // it names no weights
}

// ---- conversion ------------------------------------------------------------------------------

TEST_CASE("snapshot: converting onto a file makes its snapshots anew") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "checkpoint");
  test::small_checkpoint().write(folder / "checkpoint");
  ConvertOptions options;
  options.input = folder / "checkpoint";
  options.output = folder / "m.moka";
  options.weights = WeightType::kF32;
  options.tokenizer = "bytes";
  options.threads = 1;
  options.test_vector = TestVectorMode::kNever;
  {
    const auto report = convert(options);
    REQUIRE_MESSAGE(report.ok(), report.status().to_string());
  }
  add(options.output, "coach", kText);
  add(options.output, "poet", "In rhymes.");
  options.force = true;
  options.weights = WeightType::kInt8;
  for (const TestVectorMode mode : {TestVectorMode::kNever, TestVectorMode::kAlways}) {
    options.test_vector = mode;
    const auto report = convert(options);
    REQUIRE_MESSAGE(report.ok(), report.status().to_string());
    REQUIRE(!report.value().notes.empty());
    CHECK(report.value().notes.back() ==
          "prefix snapshots of the old output were made anew with the new weights: coach, poet");
    CHECK(report.value().file_bytes == read_file(options.output).size());
    const Model model = open(options.output);
    REQUIRE(model.info().snapshots.size() == 2);
    for (const char* name : {"coach", "poet"}) {
      CHECK(find_snapshot(model.spec(), name)->text == (name[0] == 'c' ? kText : "In rhymes."));
      CHECK(saved(beginning(model, name)) == saved(reading(model, name)));
    }
    require_ok(verify_data(load_model_file(options.output).value(), "m"));
  }
  const std::string before = read_file(options.output);
  options.tokenizer = "none";
  const Status refused = convert(options).status();
  CHECK_MESSAGE(refused.code() == StatusCode::kUnsupported, refused.to_string());
  CHECK_MESSAGE(refused.message().find("prefix snapshot 'coach': ") == 0, refused.message());
  CHECK_MESSAGE(refused.message().find("has no tokenizer; it is in the old " + options.output) !=
                    std::string::npos,
                refused.message());
  CHECK(read_file(options.output) == before);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"checkpoint", "m.moka"});
  // An old output that is no model has none, and that is said.
  write_file(options.output, "not a model");
  options.tokenizer = "bytes";
  const auto report = convert(options);
  REQUIRE_MESSAGE(report.ok(), report.status().to_string());
  CHECK(report.value().notes.back().find("the old output is no model that can be read") == 0);
}

TEST_CASE("snapshot: texts that a tokenizer cannot spell are named before the work begins") {
  TestModel made = text_model();
  const auto texts = std::vector<SnapshotText>{{"plain", "aab"}, {"odd", "abz"}};
  TokenizerSpec chars;
  chars.kind = TokenizerKind::kChars;
  chars.pieces = {'a', 'b'};
  chars.piece_ends = {1, 2};
  made.spec.tokenizer = chars;
  const Status status = check_snapshot_texts(made.spec, texts);
  CHECK_MESSAGE(status.code() == StatusCode::kInvalidArgument, status.to_string());
  CHECK_MESSAGE(status.message().find("prefix snapshot 'odd': the text: ") == 0, status.message());
  made.spec.tokenizer = bytes_tokenizer_spec();
  CHECK(check_snapshot_texts(made.spec, texts).ok());
  CHECK(check_snapshot_texts(made.spec, {}).ok());
}

}  // namespace
}  // namespace moka
