// `moka logits`: the scores of every next token, for comparing with a training framework.
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "converter/npy.h"
#include "moka/moka.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/json.h"
#include "platforms/cli/options.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr size_t kSlice = 1024;  // tokens between two looks at the progress bar

const char kDescription[] =
    "Reads token ids, an int32 or int64 array of shape (B, T) or (T), from a NumPy file, and "
    "writes the logits as float32 of shape (B, T, V) or (T, V). Each row of ids is a sequence "
    "that starts from an empty memory; no token is put before it. The output appears when it is "
    "complete; its size does not need memory.";

const char kExamples[] =
    "  moka logits model.moka --ids ids.npy -o logits.npy\n"
    "  python3 -c 'import numpy as n; n.save(\"ids.npy\", n.array([[1, 2, 3]]))'\n";

struct LogitsOptions {
  std::string model, ids, output;
  bool force = false;
  bool json = false;
  int threads = 0;
};

struct Sequences {
  std::vector<TokenId> ids;  // row after row
  size_t count = 0, length = 0;
  std::vector<uint64_t> shape;
};

Outcome read_sequences(const std::string& path, const ModelInfo& info, Sequences* sequences) {
  MOKA_ASSIGN_OR_RETURN(const NpyArray array, read_npy(path));
  sequences->shape = array.shape;
  if (array.shape.empty() || array.shape.size() > 2 || array.elements() == 0) {
    return {kExitFailure, path + ": the shape of the ids must be (B, T) or (T), with no extent 0"};
  }
  Result<std::vector<int32_t>> ids = array.to_int32();
  if (!ids.ok()) return {kExitFailure, path + ": " + ids.status().message()};
  sequences->ids = std::move(ids).value();
  sequences->length = static_cast<size_t>(array.shape.back());
  sequences->count = sequences->ids.size() / sequences->length;
  // All of them before the work begins, with their place.
  for (size_t i = 0; i < sequences->ids.size(); i++) {
    const TokenId id = sequences->ids[i];
    if (id >= 0 && static_cast<uint32_t>(id) < info.vocab_size) continue;
    const std::string column = std::to_string(i % sequences->length);
    const std::string place =
        array.shape.size() == 1 ? column : std::to_string(i / sequences->length) + ", " + column;
    return {kExitFailure, path + ": ids[" + place + "] is " + std::to_string(id) +
                              "; this model's ids are 0 to " + std::to_string(info.vocab_size - 1)};
  }
  if (info.position_limit != 0 && sequences->length > info.position_limit) {
    return {kExitFailure, path + ": sequences of " + with_commas(sequences->length) +
                              " tokens; the model reads at most " +
                              with_commas(info.position_limit)};
  }
  return {};
}

Status write_sequence(Session& session, Span<const TokenId> ids, size_t row_size, NpyWriter& writer,
                      Progress& bar, uint64_t done) {
  session.reset();
  const LogitsSink sink = [&](size_t, size_t rows, const float* logits, size_t stride) {
    for (size_t row = 0; row < rows; row++) {
      MOKA_RETURN_IF_ERROR(writer.write(Span<const float>(logits + row * stride, row_size)));
    }
    return Status();
  };
  for (size_t at = 0; at < ids.size(); at += kSlice) {
    const size_t count = std::min(kSlice, ids.size() - at);
    MOKA_RETURN_IF_ERROR(session.append(ids.subspan(at, count), sink));
    bar.update(done + at + count);
  }
  return {};
}

Outcome logits(const LogitsOptions& options) {
  if (!options.force && ::access(options.output.c_str(), F_OK) == 0) {
    return Outcome::usage("--output: '" + options.output + "' exists; --force replaces it");
  }
  OpenedModel opened = open_model(options.model, options.threads);
  if (!opened.model) return opened.outcome;
  const ModelInfo& info = opened.model->info();
  if (info.vocab_size == 0) {
    return {kExitUnsupported, options.model + ": the model does not read token ids"};
  }
  Sequences sequences;
  Outcome outcome = read_sequences(options.ids, info, &sequences);
  if (outcome.exit_code != kExitOk) return outcome;

  std::vector<uint64_t> shape = sequences.shape;
  shape.push_back(info.outputs);
  Result<NpyWriter> writer = NpyWriter::create(options.output, shape);
  if (!writer.ok()) return Outcome::failure(writer.status());
  MOKA_ASSIGN_OR_RETURN(Session session, opened.model->new_session());
  const CancelOnInterrupt cancel(&session);
  {
    Progress bar("computing", sequences.ids.size(), "tokens");
    for (size_t i = 0; i < sequences.count; i++) {
      const size_t first = i * sequences.length;
      const Span<const TokenId> ids(sequences.ids.data() + first, sequences.length);
      const Status status = write_sequence(session, ids, info.outputs, writer.value(), bar, first);
      if (!status.ok())
        return status.code() == StatusCode::kIo ? Outcome::failure(status) : Outcome(status);
    }
  }
  const Status finished = writer.value().finish();
  if (!finished.ok()) return Outcome::failure(finished);

  std::string words;
  for (uint64_t extent : shape) words += (words.empty() ? "" : ", ") + std::to_string(extent);
  if (options.json) {
    write_output(
        json_document({{"output", options.output}, {"shape", shape}, {"dtype", "float32"}}));
  } else {
    say(options.output + ": float32 (" + words + ")");
  }
  return {};
}

}  // namespace

Verb add_logits(CLI::App& moka) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* app = add_verb(moka, "logits", "Write the logits of given token ids as a NumPy file",
                           kDescription, kExamples);
  add_model_argument(app, &options->model);
  app->add_option("--ids", options->ids, "Token ids, a .npy file")->required()->type_name("FILE");
  app->add_option("-o,--output", options->output, "Where to write the logits, a .npy file")
      ->required()
      ->type_name("FILE");
  app->add_flag("--force", options->force, "Replace an existing output");
  add_threads_option(app, &options->threads);
  add_json_flag(app, &options->json, "One JSON object on stdout: output, shape, dtype");
  return {app, [options] { return logits(*options); }};
}

}  // namespace moka::cli
