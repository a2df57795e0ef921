// Converter: a checkpoint of trained weights in, one .moka file out.
//
//   moka::ConvertOptions options;
//   options.input = "my-model";                 // config.json, model.safetensors, tokenizer.json
//   options.output = "my-model.moka";
//   auto report = moka::convert(options);       // check report.ok()
//
// Tensors are read, converted and written one after the other in pieces, so the conversion itself
// needs a few MiB whatever the size of the model; test vector and check then run the model, which
// takes the memory that running takes. The output appears under its name only when it is complete.
// One call uses one thread at a time (and the runtime's threads while the model runs); calls with
// different outputs may run side by side. README.md says which folders, keys and tensors are read.
#ifndef MOKA_CONVERTER_CONVERT_H_
#define MOKA_CONVERTER_CONVERT_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "converter/quantize.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

// What a conversion is doing. `total` is 0 where it is not known.
struct ConvertProgress {
  // "reading", "weights", "float32 copy", "measuring", "test vector", "finishing", and "snapshots" where
  // the old output had some; with kAuto also
  // "int8 copy", "trying int4", "choosing"
  const char* stage = "";
  uint64_t done = 0;
  uint64_t total = 0;
  const char* unit = "bytes";  // or "tokens", "models"
};
// Called some times a second at most, on the calling thread. False ends the call with kCancelled.
using ConvertProgressSink = std::function<bool(const ConvertProgress&)>;

// Whether to run the model and store what it says, for `moka verify`. Running takes the memory of
// the stored weights, some of it twice, which a conversion otherwise does not need; kAuto does it
// when the stored weights are at most kAutoTestVectorBytes or check_text runs the model anyway.
enum class TestVectorMode : uint8_t { kAuto, kAlways, kNever };
constexpr uint64_t kAutoTestVectorBytes = uint64_t{256} << 20;

// Of models/stories-hf, int8 throughout has 0.0007 and int4 0.016; see models/README.md.
constexpr double kDefaultMaxKl = 0.01;

struct ConvertOptions {
  std::string input;   // a file or folder of weights, or a training run; see README.md
  std::string output;  // the .moka file; not needed to plan
  // What weights do not tell, when it does not lie beside them or is to be another.
  std::string config;               // config.json or config.yaml; empty: looked for
  std::optional<uint64_t> step;     // of a training run; see CheckpointOptions
  std::string tokenizer;            // as TokenizerRequest::source, or "none"; empty: looked for
  std::optional<int32_t> pad_id;    // a pooling model's padding; -1: none
  std::vector<std::string> labels;  // of the classes; empty: as configured
  std::string gate_column;  // "first", "last": macchiato checkpoints with gates among the queries
  WeightType weights = WeightType::kInt8;
  bool force = false;      // replace an existing output
  std::string check_text;  // a text file: measure the loss against float32 and store it
  // kAuto, which needs check_text: the KL(float32 || stored) on it that is allowed, nats per token.
  double max_kl = kDefaultMaxKl;
  TestVectorMode test_vector = TestVectorMode::kAuto;
  int threads = 0;  // of the runtime while it runs the model; 0: its default
  // Metadata; an empty name is the folder's.
  std::string name, description, license, author, training;
  ConvertProgressSink progress;
};

// One line of the plan: where a source tensor goes.
struct PlannedTensor {
  std::string source;       // name in the checkpoint; several are joined with " + "
  std::string source_type;  // "F32", "BF16", ...
  std::vector<uint64_t> source_shape;
  uint64_t source_bytes = 0;
  std::string target;     // name in the .moka file
  std::string transform;  // what is done to the numbers: "copy", "BF16 to f32", ...
  DType stored = DType::kF32;
  uint64_t stored_bytes = 0;  // scales included
};

struct ConversionPlan {
  std::string input;         // the folder
  std::string architecture;  // "macchiato language model, 8 layers of width 384"
  WeightType weights = WeightType::kInt8;
  std::vector<PlannedTensor> tensors;  // in the order of the file that will be written
  std::vector<std::string> notes;      // what a person should know before going on
  uint64_t parameters = 0;
  uint64_t source_bytes = 0;  // of all tensors
  uint64_t stored_bytes = 0;
  ModelSpec spec;  // described: tensors without data
};

// Loss of one stored tensor against its source.
struct TensorError {
  std::string tensor;
  DType stored = DType::kF32;
  QuantizationError error;
};

// Matrices that kAuto left at int8, and why.
struct KeptWide {
  std::string name;  // of the group: "blocks.3 mixer in"
  std::vector<std::string> tensors;
  double kl = 0;       // nats per token that these alone at int4 cost, on the text's beginning
  uint64_t bytes = 0;  // that int8 takes more
};

struct ConvertReport {
  std::string output;
  std::string architecture;
  WeightType weights = WeightType::kInt8;
  uint64_t parameters = 0;
  uint64_t source_bytes = 0;
  uint64_t file_bytes = 0;
  std::vector<TensorError> tensors;  // quantised and narrowed tensors only
  std::vector<std::string> notes;
  std::vector<KeptWide> kept_wide;         // kAuto: the most worth its bytes first
  uint64_t candidates = 0;                 // kAuto: groups that could have been
  std::optional<Measurement> measurement;  // with check_text
  std::optional<TestVector> test_vector;   // what was stored for `moka verify`
  double seconds = 0;
};

// Reads config.json, the tokenizer and the headers of the weights, never the weights themselves.
// kNotFound, kIo: a file is missing or cannot be read. kCorrupt: JSON or a container that is not
// what it claims to be, tensors that do not fit the configuration (up to 20 problems at once).
// kInvalidArgument: a configuration key or value that cannot be right. kUnsupported: a valid model
// that this build cannot convert; the message names the key and value.
Result<ConversionPlan> plan_conversion(const ConvertOptions& options);

// Errors as plan_conversion; also kFailedPrecondition when the output exists without `force`,
// kCorrupt for a weight that is NaN or infinite, kOutOfRange for one beyond float16 with kF16 and for
// a max_kl that int8 does not hold with kAuto, kCancelled. On failure there is no output, and an older one is untouched.
// Prefix snapshots of an output that is replaced are made anew from their texts with the new weights;
// one that cannot be is an error that names it.
Result<ConvertReport> convert(const ConvertOptions& options);

// For people (a table, ends with a newline) and for programs (one JSON document).
std::string plan_text(const ConversionPlan& plan);
std::string plan_json(const ConversionPlan& plan);
std::string report_text(const ConvertReport& report);
std::string report_json(const ConvertReport& report);

}  // namespace moka

#endif  // MOKA_CONVERTER_CONVERT_H_
