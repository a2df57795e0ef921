// What a model is given: one sequence, made from a text, a file or a JSON value.
#ifndef MOKA_PLATFORMS_CLI_SAMPLE_H_
#define MOKA_PLATFORMS_CLI_SAMPLE_H_

#include <string>
#include <string_view>
#include <vector>

#include "moka/moka.h"
#include "moka/reading.h"
#include "platforms/cli/json.h"

namespace moka::cli {

struct Sample {
  std::vector<TokenId> tokens;  // models that read tokens
  std::vector<float> values;    // the others, [steps][features]
  std::string name;             // for messages and output: the path, "x.npy[3]", "--text"

  SequenceInput input() const;
};

// Makes samples for one model. Texts are tokenised as in training: special tokens in them are plain
// text, and the bos and eos that the tokenizer adds are added. A text longer than the model reads is
// kOutOfRange, or with `truncate` its start is kept. All errors begin with the sample's name.
class SampleReader {
 public:
  SampleReader(const Model& model, bool truncate) : model_(&model), truncate_(truncate) {}

  // kInvalidArgument: the model reads no text; an empty text; bytes that it cannot encode.
  Result<Sample> from_text(std::string_view text, const std::string& name) const;

  // Text, or for models that read numbers a .npy array, a picture or CSV, whichever it is. An array
  // may hold several sequences. One newline at the end of a file is not part of its text.
  Result<std::vector<Sample>> from_file(const std::string& path) const;

  // {"text": "..."}, {"ids": [...]} or {"values": [...]}: the one that is there.
  Result<Sample> from_object(const Json& object) const;
  // "..." or [...]; `name` begins messages.
  Result<Sample> from_value(const Json& value, const std::string& name) const;

  // Numbers from a list, or a list of lists, of whole steps; for models that read numbers.
  Result<std::vector<float>> numbers_of(const Json& value, const std::string& name) const;

  // Most tokens that a text may have, with those that are added; 0: any number. With `truncate`
  // also where training cut them.
  size_t token_limit() const;
  bool truncates() const { return truncate_; }
  // A remark to show once: a text was longer than those of the training. Empty: nothing to say.
  std::string note() const { return note_; }
  void note_length(uint64_t tokens) const;  // of a text that was read elsewhere

 private:
  Result<Sample> from_ids(const Json& array, const std::string& name) const;
  Result<Sample> from_values(const Json& array, const std::string& name) const;
  Result<std::vector<Sample>> from_array(std::string_view bytes, const std::string& name) const;
  Status check_length(size_t steps, const std::string& name) const;

  const Model* model_;
  bool truncate_;
  mutable std::string note_;
};

// The text without one newline at its end.
std::string_view without_newline(std::string_view text);

// kInvalidArgument when `model` does not read text, naming what it reads; `name` begins it.
Status check_reads_text(const Model& model, const std::string& name);
// The same, and for an empty text, and for UTF-16 unless the model reads bytes.
Status check_text(const Model& model, std::string_view text, const std::string& name);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_SAMPLE_H_
