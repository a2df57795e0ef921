// ModelSource: what the configuration of a checkpoint says, whatever form it has. Inside of the
// converter.
#ifndef MOKA_CONVERTER_MODEL_SOURCE_H_
#define MOKA_CONVERTER_MODEL_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/convert.h"
#include "converter/latte_config.h"
#include "converter/latte_layout.h"

namespace moka {

// What a configuration tells of how texts became ids.
struct TextRules {
  std::string source;  // as TokenizerRequest::source; empty: not told
  std::string needed;  // why there must be one and how to give it; empty: a model may go without
  std::optional<int32_t> pad_id;    // in the data that the model was trained on
  bool pad_from_tokenizer = false;  // the model pools, and only the tokenizer can tell the pad id
  bool bytes_by_size = false;       // a vocabulary of 260 ids without a file is that of bytes
  uint32_t max_length = 0;          // tokens that documents were cut to, eos included; 0: none
  bool add_eos = false;
  bool end_of_text_is_pad = false;
};

struct ModelSource {
  LatteConfig config;
  std::shared_ptr<const TensorNames> names;
  TextRules text;
  std::string config_path;         // empty: there was none
  std::vector<std::string> notes;  // for people
};

// Reads the configuration of a checkpoint that was found: the one that the options name, else the
// one beside it. Errors as plan_conversion.
Result<ModelSource> read_model_source(const ConvertOptions& options, const FoundCheckpoint& found);

}  // namespace moka

#endif  // MOKA_CONVERTER_MODEL_SOURCE_H_
