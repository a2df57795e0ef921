// Reading a prefix: for a new snapshot, and to check one that is there.
#include "converter/snapshot.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "converter/snapshot_file.h"
#include "moka/session.h"
#include "runtime/snapshots.h"
#include "runtime/spec_checker.h"

namespace moka {
namespace {

Status named(const std::string& name, const Status& status) {
  return Status(status.code(), "prefix snapshot '" + name + "': " + status.message());
}

Status unsupported(const char* why) {
  return Status(
      StatusCode::kUnsupported,
      std::string("a prefix snapshot needs a causal model that reads text; this model ") + why);
}

Status check_model(const Model& model) {
  const ModelInfo& info = model.info();
  if (!model.has_tokenizer()) return unsupported("has no tokenizer");
  if (!info.causal) return unsupported("sees ahead");
  if (info.reads_memory) return unsupported("answers from a second sequence");
  if (info.output == OutputKind::kPair) return unsupported("compares two sequences");
  return Status();
}

Status check_text(const SnapshotText& text) {
  const std::string wrong = snapshot_name_error(text.name);
  if (!wrong.empty()) return Status(StatusCode::kInvalidArgument, wrong);
  if (text.text.empty()) return Status(StatusCode::kInvalidArgument, "the text is empty");
  if (text.text.size() <= kMaxTextBytes) return Status();
  return Status(StatusCode::kOutOfRange, "the text has " + std::to_string(text.text.size()) +
                                             " bytes, at most " + std::to_string(kMaxTextBytes));
}

// What begins a text, and the text, as `moka run` reads a prompt.
Result<std::vector<TokenId>> tokens_of(const Tokenizer& tokenizer, const SnapshotText& text,
                                       uint64_t position_limit) {
  MOKA_RETURN_IF_ERROR(check_text(text));
  std::vector<TokenId> tokens;
  const TokenId begin = tokenizer.begin_id();
  if (begin >= 0) tokens.push_back(begin);
  const Status encoded = tokenizer.encode(text.text, &tokens);
  if (!encoded.ok()) return Status(encoded.code(), "the text: " + encoded.message());
  if (tokens.empty()) return Status(StatusCode::kInvalidArgument, "the text has no tokens");
  const uint64_t limit =
      position_limit == 0 ? kMaxWidth : std::min<uint64_t>(position_limit, kMaxWidth);
  if (tokens.size() <= limit) return tokens;
  return Status(StatusCode::kOutOfRange, "the text has " + std::to_string(tokens.size()) +
                                             " tokens, at most " + std::to_string(limit));
}

// Progress over the tokens of several readings.
struct Told {
  const SnapshotOptions& options;
  uint64_t done = 0, total = 0;
};

Status read_tokens(Session* session, Span<const TokenId> tokens, size_t chunk, Told* told) {
  for (size_t done = 0; done < tokens.size();) {
    const size_t count = std::min(chunk, tokens.size() - done);
    MOKA_RETURN_IF_ERROR(session->append(tokens.subspan(done, count)));
    done += count;
    told->done += count;
    if (told->options.progress && !told->options.progress(told->done, told->total)) {
      return Status(StatusCode::kCancelled, "cancelled after " + std::to_string(told->done) +
                                                " of " + std::to_string(told->total) + " tokens");
    }
  }
  return Status();
}

Result<std::vector<MadeSnapshot>> make_snapshots(const Model& model, uint64_t weights,
                                                 const std::vector<SnapshotText>& texts,
                                                 const SnapshotOptions& options) {
  MOKA_RETURN_IF_ERROR(check_model(model));
  std::vector<MadeSnapshot> made(texts.size());
  Told told{options};
  for (size_t i = 0; i < texts.size(); ++i) {
    Result<std::vector<TokenId>> tokens =
        tokens_of(model.tokenizer(), texts[i], model.info().position_limit);
    if (!tokens.ok()) return named(texts[i].name, tokens.status());
    told.total += tokens.value().size();
    made[i].entry.tokens = std::move(tokens).value();
  }
  MOKA_ASSIGN_OR_RETURN(Session session, model.new_session());
  for (size_t i = 0; i < texts.size(); ++i) {
    PrefixSnapshot& entry = made[i].entry;
    entry.name = texts[i].name;
    entry.text = texts[i].text;
    entry.position = entry.tokens.size();
    entry.weights = weights;
    entry.chunk = model.executor().chunk();
    entry.isa = model.info().isa;
    session.reset();
    const Status read = read_tokens(&session, entry.tokens, entry.chunk, &told);
    if (!read.ok()) return named(entry.name, read);
    MOKA_ASSIGN_OR_RETURN(made[i].state, session.save());
  }
  return made;
}

OpenOptions open_options(const SnapshotOptions& options) {
  OpenOptions open;
  open.executor.threads = options.threads;
  return open;
}

// The model is closed again when this returns: what is mapped cannot be replaced everywhere.
Result<std::vector<MadeSnapshot>> make_with(const std::string& path, const SnapshotFile& file,
                                            const std::vector<SnapshotText>& texts,
                                            const SnapshotOptions& options) {
  MOKA_ASSIGN_OR_RETURN(const Model model, Model::open(path, open_options(options)));
  if (model.info().fingerprint != file.fingerprint()) {
    return Status(StatusCode::kFailedPrecondition, path + ": it was replaced in the meantime");
  }
  return make_snapshots(model, file.weights_checksum(), texts, options);
}

bool rounds_inputs(const ModelSpec& spec) {
  return std::any_of(spec.tensors.begin(), spec.tensors.end(), [](const Tensor& tensor) {
    return tensor.dtype == DType::kI8 || tensor.dtype == DType::kI4;
  });
}

bool are_scores(OutputKind output) {
  return output == OutputKind::kLanguage || output == OutputKind::kClassifier ||
         output == OutputKind::kPair;
}

}  // namespace

Result<SnapshotInfo> add_snapshot(const std::string& path, const SnapshotText& text,
                                  const SnapshotOptions& options) {
  MOKA_RETURN_IF_ERROR(check_text(text));
  MOKA_ASSIGN_OR_RETURN(SnapshotFile file, SnapshotFile::open(path));
  if (!options.replace && find_snapshot(file.spec(), text.name) != nullptr) {
    return Status(StatusCode::kFailedPrecondition, path + ": has a prefix snapshot '" + text.name +
                                                       "' already; --force replaces it");
  }
  MOKA_ASSIGN_OR_RETURN(std::vector<MadeSnapshot> made, make_with(path, file, {text}, options));
  const SnapshotInfo info{text.name, made[0].entry.position, made[0].state.size()};
  file.put(std::move(made[0]));
  MOKA_RETURN_IF_ERROR(file.write(path));
  return info;
}

Status remove_snapshot(const std::string& path, const std::string& name) {
  MOKA_ASSIGN_OR_RETURN(SnapshotFile file, SnapshotFile::open(path));
  if (find_snapshot(file.spec(), name) == nullptr) {
    return Status(StatusCode::kNotFound, path + ": has no prefix snapshot '" + name +
                                             "'; it has: " + snapshot_names(file.spec()));
  }
  file.remove(name);
  return file.write(path);
}

Status write_with_snapshots(const std::string& from, const std::vector<SnapshotText>& texts,
                            const std::string& to, const SnapshotOptions& options) {
  MOKA_ASSIGN_OR_RETURN(SnapshotFile file, SnapshotFile::open(from));
  MOKA_ASSIGN_OR_RETURN(std::vector<MadeSnapshot> made, make_with(from, file, texts, options));
  file.clear();
  for (MadeSnapshot& snapshot : made) file.put(std::move(snapshot));
  return file.write(to);
}

Status check_snapshot_texts(const ModelSpec& spec, const std::vector<SnapshotText>& texts) {
  if (texts.empty()) return Status();
  const auto refuse = [&texts](const char* why) { return named(texts[0].name, unsupported(why)); };
  if (!spec.tokenizer || spec.tokenizer->kind == TokenizerKind::kNone) {
    return refuse("has no tokenizer");
  }
  if (spec.memory) return refuse("answers from a second sequence");
  if (std::holds_alternative<PairHead>(spec.head)) return refuse("compares two sequences");
  for (const Block& block : spec.blocks) {
    if (sees_ahead(block.mixer)) return refuse("sees ahead");
  }
  TokenizerSpec copy = *spec.tokenizer;
  MOKA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::create(copy));
  for (const SnapshotText& text : texts) {
    const Status status = tokens_of(tokenizer, text, 0).status();
    if (!status.ok()) return named(text.name, status);
  }
  return Status();
}

double relative_rms(Span<const float> found, Span<const float> expected, bool scores) {
  if (found.size() != expected.size()) return HUGE_VAL;
  const auto count = static_cast<double>(std::max<size_t>(expected.size(), 1));
  double mean = 0, mean_difference = 0;
  for (size_t i = 0; scores && i < expected.size(); ++i) {
    mean += expected[i] / count;
    mean_difference += (static_cast<double>(found[i]) - expected[i]) / count;
  }
  double squares = 0, difference_squares = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = expected[i] - mean;
    const double difference = static_cast<double>(found[i]) - expected[i] - mean_difference;
    squares += value * value;
    difference_squares += difference * difference;
  }
  if (!std::isfinite(squares) || !std::isfinite(difference_squares)) return HUGE_VAL;
  if (difference_squares == 0) return 0;
  return squares > 0 ? std::sqrt(difference_squares / squares) : HUGE_VAL;
}

Result<SnapshotCheck> check_snapshot(const Model& model, const PrefixSnapshot& snapshot,
                                     const SnapshotOptions& options) {
  constexpr int kTokensBehind = 8;
  MOKA_ASSIGN_OR_RETURN(Session stored, model.new_session_from(snapshot.name));
  ExecutorOptions executor_options;
  executor_options.threads = model.executor().threads();
  executor_options.chunk = snapshot.chunk;
  Result<Executor> executor = model.new_executor(executor_options);
  if (!executor.ok()) return named(snapshot.name, executor.status());
  MOKA_ASSIGN_OR_RETURN(Session again, model.new_session(executor.value()));
  Told told{options};
  told.total = snapshot.tokens.size();
  MOKA_RETURN_IF_ERROR(read_tokens(&again, snapshot.tokens, snapshot.chunk, &told));

  SnapshotCheck check;
  check.tolerance = rounds_inputs(model.spec()) ? 0.1 : 0.01;
  MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, again.save());
  check.same_bits =
      bytes.size() == snapshot.size && std::memcmp(bytes.data(), snapshot.data, bytes.size()) == 0;
  const bool scores = are_scores(model.info().output);
  check.difference = relative_rms(stored.logits(), again.logits(), scores);
  const uint64_t limit = model.info().position_limit;
  for (int i = 0; i < kTokensBehind && model.info().output == OutputKind::kLanguage; ++i) {
    if (limit != 0 && again.position() >= limit) break;
    const Span<const float> row = again.logits();
    const auto best = static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin());
    MOKA_RETURN_IF_ERROR(stored.append(Span<const TokenId>(&best, 1)));
    MOKA_RETURN_IF_ERROR(again.append(Span<const TokenId>(&best, 1)));
    check.difference =
        std::max(check.difference, relative_rms(stored.logits(), again.logits(), scores));
  }
  return check;
}

}  // namespace moka
