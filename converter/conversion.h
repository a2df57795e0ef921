// Conversion: everything that is known before the first weight is read. Inside of the converter.
#ifndef MOKA_CONVERTER_CONVERSION_H_
#define MOKA_CONVERTER_CONVERSION_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/convert.h"
#include "converter/latte_layout.h"
#include "converter/model_source.h"

namespace moka {

struct Conversion {
  std::string input;  // as it was given
  ModelSource source;
  std::unique_ptr<Checkpoint> checkpoint;
  LatteLayout layout;              // with tokenizer and metadata; source_files are not hashed yet
  std::vector<std::string> files;  // everything that was read, for metadata.source_files
  std::vector<std::string> notes;
  std::string architecture;
  uint64_t source_bytes = 0;  // of all tensors
};

// Errors as plan_conversion.
Result<Conversion> prepare_conversion(const ConvertOptions& options);

// The same model described with other weights, with tokenizer and without metadata.
Result<LatteLayout> layout_with(const Conversion& conversion, WeightType weights);

}  // namespace moka

#endif  // MOKA_CONVERTER_CONVERSION_H_
