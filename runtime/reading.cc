#include "moka/reading.h"

#include <string>
#include <utility>
#include <vector>

#include "runtime/check_steps.h"
#include "runtime/executor.h"
#include "runtime/guard.h"

namespace moka {

struct ExecutorAccess {
  // Null for an Executor that was made by no model.
  static ExecutorImpl* of(const Executor& executor) { return executor.impl_.get(); }
};

namespace {

// What read_whole() of the executor needs, and the memory behind it.
struct Prepared {
  WholeRead read;
  std::vector<TokenId> kept;  // the tokens without padding, when there was some
};

Status check_image(const ModelInfo& info, size_t count) {
  const uint64_t pixels = uint64_t{info.image_width} * info.image_height;
  if (pixels == 0 || count == pixels) return Status();
  return Status(StatusCode::kOutOfRange,
                "the image has " + std::to_string(count) + " pixels, the model reads " +
                    std::to_string(info.image_width) + " x " + std::to_string(info.image_height) +
                    ", which are " + std::to_string(pixels));
}

// The index of the token for last-token pooling (spec: heads): the one before the first padding; the
// very last when there is no padding, or when the sequence begins with it.
size_t last_index(Span<const TokenId> tokens, TokenId pad_id) {
  for (size_t i = 1; i < tokens.size(); ++i) {
    if (tokens[i] == pad_id && tokens[0] != pad_id) return i - 1;
  }
  return tokens.size() - 1;
}

// Cuts tokens at padding into pieces and leaves the padding out.
Status skip_padding(const Plan& plan, Span<const TokenId> tokens, size_t most, Prepared* out) {
  const TokenId pad = plan.head.pad_id;
  const size_t last = last_index(tokens, pad);
  const bool by_last = plan.head.pooling == Pooling::kLast;
  // Later tokens do not change a causal model's last row; others see them.
  const size_t end = by_last && !plan.whole ? last + 1 : tokens.size();
  size_t begin = 0;
  bool found = false;
  for (size_t i = 0; i < end; begin = i) {
    while (i < end && tokens[i] != pad) ++i;
    for (const Piece& piece :
         cut_pieces(out->kept.size(), i - begin, begin - out->kept.size(), most)) {
      out->read.pieces.push_back(piece);
    }
    if (begin <= last && last < i) {
      out->read.last = out->kept.size() + (last - begin);
      found = true;
    }
    out->kept.insert(out->kept.end(), tokens.begin() + begin, tokens.begin() + i);
    while (i < end && tokens[i] == pad) ++i;
  }
  if (out->kept.empty()) {
    return Status(StatusCode::kOutOfRange, "all " + std::to_string(tokens.size()) +
                                               " tokens are padding (id " + std::to_string(pad) +
                                               "): there is nothing to read");
  }
  if (by_last && !found) {
    return Status(StatusCode::kOutOfRange, "the sequence begins and ends with padding (id " +
                                               std::to_string(pad) +
                                               "); padding belongs after the tokens");
  }
  // The mean and the first row are complete with the last token that is kept, wherever padding was.
  if (!by_last) out->read.last = out->kept.size() - 1;
  out->read.steps = {out->kept.data(), nullptr, out->kept.size()};
  return Status();
}

Result<Steps> check_input(const ModelInfo& info, const SequenceInput& input, const char* what) {
  Steps steps;
  if (!input.tokens.empty() && !input.values.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  std::string(what) + " has tokens and numbers, expected one of them");
  }
  // Before the kind is looked at: nothing is neither tokens nor numbers.
  if (input.tokens.empty() && input.values.empty()) {
    return Status(StatusCode::kInvalidArgument, std::string(what) + " is empty");
  }
  if (!input.values.empty()) {
    MOKA_RETURN_IF_ERROR(check_values(info, input.values));
    steps = {nullptr, input.values.data(), input.values.size() / info.features};
  } else {
    MOKA_RETURN_IF_ERROR(check_tokens(info, input.tokens));
    steps = {input.tokens.data(), nullptr, input.tokens.size()};
  }
  MOKA_RETURN_IF_ERROR(check_positions(info, 0, steps.count));
  MOKA_RETURN_IF_ERROR(check_image(info, steps.count));
  return steps;
}

// `what` names the sequence in messages.
Status prepare(const Model& model, const ExecutorImpl& executor, const SequenceInput& input,
               const char* what, const ReadOptions& options, Prepared* out) {
  const ModelInfo& info = model.info();
  const Plan& plan = executor.model().plan;
  const size_t most = executor.forward().max_rows();
  MOKA_ASSIGN_OR_RETURN(const Steps steps, check_input(info, input, what));
  out->read.steps = steps;
  bool padded = false;
  for (size_t i = 0; info.pad_id >= 0 && i < input.tokens.size(); ++i) {
    padded = padded || input.tokens[i] == info.pad_id;
  }
  if (padded) {
    MOKA_RETURN_IF_ERROR(skip_padding(plan, input.tokens, most, out));
  } else {
    out->read.pieces = cut_pieces(0, steps.count, 0, most);
    out->read.last = steps.count - 1;
  }
  const bool remembers = !options.memory.tokens.empty() || !options.memory.values.empty();
  if (remembers != info.reads_memory) {
    return Status(StatusCode::kInvalidArgument,
                  info.reads_memory
                      ? "the model answers from a second sequence: give one as `memory`"
                      : "a memory was given, but the model reads one sequence");
  }
  if (remembers) {
    MOKA_ASSIGN_OR_RETURN(out->read.memory, check_input(info, options.memory, "the memory"));
    out->read.memory_pieces = cut_pieces(0, out->read.memory.count, 0, most);
  }
  out->read.cancel = options.cancel;
  out->read.progress = &options.progress;
  return Status();
}

// The vector of a pooled head, with the room after it that products may read.
Result<std::vector<float>> read_pooled(const Model& model, ExecutorImpl& executor,
                                       Prepared* prepared) {
  std::vector<float> pooled(model.info().width + 2 * kRowPad);
  prepared->read.pooled = pooled.data();
  MOKA_RETURN_IF_ERROR(executor.read_whole(prepared->read));
  return pooled;
}

Result<ExecutorImpl*> executor_of(const Model& model, const ReadOptions& options) {
  ExecutorImpl* own = ExecutorAccess::of(model.executor());
  if (options.executor == nullptr) return own;
  ExecutorImpl* chosen = ExecutorAccess::of(*options.executor);
  if (chosen != nullptr && &chosen->model() == &own->model()) return chosen;
  return Status(StatusCode::kInvalidArgument, "the executor was made by another model");
}

}  // namespace

Status read_sequence(const Model& model, const SequenceInput& input, const LogitsSink& sink,
                     const ReadOptions& options) {
  return guarded("reading the sequence", [&]() -> Status {
    MOKA_ASSIGN_OR_RETURN(ExecutorImpl* const chosen, executor_of(model, options));
    ExecutorImpl& executor = *chosen;
    if (!sink) return Status(StatusCode::kInvalidArgument, "the sink of the rows is empty");
    if (model.info().output == OutputKind::kPair) {
      return Status(StatusCode::kInvalidArgument,
                    "the model compares two sequences: use read_pair()");
    }
    Prepared prepared;
    MOKA_RETURN_IF_ERROR(prepare(model, executor, input, "the sequence", options, &prepared));
    if (executor.model().plan.head.pooled) {
      MOKA_ASSIGN_OR_RETURN(const std::vector<float> pooled,
                            read_pooled(model, executor, &prepared));
      std::vector<float> row(model.info().outputs);
      MOKA_RETURN_IF_ERROR(executor.project(pooled.data(), nullptr, row.data()));
      return sink(0, 1, row.data(), row.size());
    }
    prepared.read.sink = &sink;
    return executor.read_whole(prepared.read);
  });
}

Result<std::vector<float>> read_pair(const Model& model, const SequenceInput& first,
                                     const SequenceInput& second, const ReadOptions& options) {
  return guarded("reading the sequences", [&]() -> Result<std::vector<float>> {
    MOKA_ASSIGN_OR_RETURN(ExecutorImpl* const chosen, executor_of(model, options));
    ExecutorImpl& executor = *chosen;
    if (model.info().output != OutputKind::kPair) {
      return Status(StatusCode::kInvalidArgument,
                    "the model reads one sequence: use read_sequence()");
    }
    // Each half of the work is half of the progress.
    ReadOptions half = options;
    double before = 0.0;
    if (options.progress) {
      half.progress = [&](double share) { options.progress(before + share / 2.0); };
    }
    Prepared one, two;
    MOKA_RETURN_IF_ERROR(prepare(model, executor, first, "the first sequence", half, &one));
    MOKA_RETURN_IF_ERROR(prepare(model, executor, second, "the second sequence", half, &two));
    MOKA_ASSIGN_OR_RETURN(const std::vector<float> u, read_pooled(model, executor, &one));
    before = 0.5;
    MOKA_ASSIGN_OR_RETURN(const std::vector<float> v, read_pooled(model, executor, &two));
    std::vector<float> row(model.info().outputs);
    MOKA_RETURN_IF_ERROR(executor.project(u.data(), v.data(), row.data()));
    return row;
  });
}

}  // namespace moka
