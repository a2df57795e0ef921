// Checkpoint: named tensors of trained weights, whatever container they come in.
//
// One file per container form implements this interface (safetensors.cc, torch_checkpoint.cc,
// flax_checkpoint.cc, orbax.cc; checkpoint_index.cc joins several files); checkpoint_forms.cc finds
// the form. What the names mean is not known here: the layouts map them.
#ifndef MOKA_CONVERTER_CHECKPOINT_H_
#define MOKA_CONVERTER_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "moka/status.h"

namespace moka {

// Number types of checkpoints. Weights are of the first four; the others are known so that the
// message about them can say what they are.
enum class SourceType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kU16,
  kU32,
  kU64,
  kBool,
  kF8E4M3,
  kF8E5M2,
};

const char* source_type_name(SourceType type);  // "F32", as safetensors spells it
size_t source_type_size(SourceType type);       // bytes
bool is_weight_type(SourceType type);           // read() gives these as float32

struct SourceTensor {
  std::string name;
  SourceType type = SourceType::kF32;
  std::vector<uint64_t> shape;  // row-major; empty: one number
  uint64_t elements = 0;        // product of shape, checked
  uint64_t bytes() const { return elements * source_type_size(type); }
  std::string shape_string() const;  // "[384, 384]"
};

// The container that a checkpoint came in.
enum class CheckpointForm : uint8_t {
  kSafetensors,  // one file, or an index and its files
  kPyTorch,      // a zip archive of torch.save, or an index and its files
  kMsgpack,      // a training state or parameters that flax.serialization wrote
  kOrbax,        // a folder that Orbax wrote: an OCDBT store or zarr arrays
};
const char* checkpoint_form_name(CheckpointForm form);  // "safetensors", "PyTorch", "msgpack", ...

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  CheckpointForm form() const { return form_; }
  // Sorted by name, which is unique. Names of Flax trees (kMsgpack, kOrbax) are paths joined with
  // '/' that begin with "params/" or "batch_stats/", whatever the form; those of PyTorch
  // lack a prefix "module." or "_orig_mod." that all had; those of safetensors are as they were.
  const std::vector<SourceTensor>& tensors() const { return tensors_; }
  // Files that make up the checkpoint, for the record. The first one stands for it in messages.
  const std::vector<std::string>& files() const { return files_; }
  // The training step that the training state itself holds, if it does.
  const std::optional<uint64_t>& step() const { return step_; }
  // What a person should know of how the file was read ("the state dict is under "model"").
  const std::vector<std::string>& notes() const { return notes_; }

  // Reads numbers [first, first + count) of a tensor as float32. float64 is rounded to nearest and
  // becomes infinite beyond float32. The tensor is of a weight type, the range inside it.
  // kIo when the file cannot be read, kCorrupt when packed data is not what it claims to be. One
  // thread at a time.
  virtual Status read(size_t tensor, uint64_t first, size_t count, float* out) = 0;

 protected:
  explicit Checkpoint(CheckpointForm form) : form_(form) {}

  CheckpointForm form_;
  std::vector<SourceTensor> tensors_;
  std::vector<std::string> files_;
  std::vector<std::string> notes_;
  std::optional<uint64_t> step_;
};

struct CheckpointOptions {
  // Of a run with several steps, the one to take. Without it: the lowest stored validation loss,
  // or the newest step when none is stored.
  std::optional<uint64_t> step;
};

// A checkpoint and where it was found.
struct FoundCheckpoint {
  std::unique_ptr<Checkpoint> checkpoint;
  std::string folder;              // that holds the weights; config.json and tokenizers lie there
  std::string run_folder;          // of a training run: the parent of "checkpoints"; else `folder`
  std::optional<uint64_t> step;    // of a run: its folder's name; else what the state itself holds
  std::string config_yaml;         // config.yaml beside or up to two above run_folder; empty: none
  std::vector<std::string> notes;  // what was chosen and why, what was passed over; for people
};

// Opens the weights of `path`, a file of any form or a folder that holds one: model.safetensors,
// pytorch_model.bin, their .index.json, a single *.pt or *.pth, flax_model.msgpack, a step of a
// training run (<step>/default/checkpoint or an OCDBT store), or a run with checkpoints/<step>.
// Reads headers only. kNotFound when there is none or not the step asked for; kInvalidArgument when
// a folder holds several that disagree (the message names both); kUnsupported for a known form that
// is not read (the message says what to do); and what the container's reader says.
Result<FoundCheckpoint> open_checkpoint(const std::string& path, const CheckpointOptions& options);

// The same for a caller that wants the weights alone.
Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::string& path);

// One .safetensors file. kCorrupt: the header is not what the form asks for, tensors overlap, leave
// gaps or end outside the file. kUnsupported: a number type that is not known. kOutOfRange: a
// header beyond 32 MiB.
Result<std::unique_ptr<Checkpoint>> open_safetensors(const std::string& path);

// A *.safetensors.index.json or *.bin.index.json and the files it names, which lie beside it and are
// all of one form. Also kCorrupt when index and files do not name the same tensors.
Result<std::unique_ptr<Checkpoint>> open_checkpoint_index(const std::string& path);

// A msgpack document of flax.serialization: a training state (spec 19.1; only model/params,
// model/batch_stats and model/step are looked at), a tree with "params", or parameters alone.
// Arrays that lie in a tensor store beside the file are read from there. kCorrupt: not msgpack, an
// array whose bytes do not fit its shape, nesting beyond 64. kUnsupported: a number type that is
// not known.
Result<std::unique_ptr<Checkpoint>> open_flax_msgpack(const std::string& path);

// The folder of one item that Orbax wrote: manifest.ocdbt or folders of zarr arrays, with _METADATA.
// kCorrupt: damaged or cut short, by checksum and by structure. kUnsupported: a compression or a
// format version that is not known.
Result<std::unique_ptr<Checkpoint>> open_orbax(const std::string& folder);

// A zip archive of torch.save: a state dict, or a dict that holds one under "state_dict",
// "model_state_dict", "model" or "module". Nothing in it is executed: data.pkl is read as data, and
// what a state dict does not need is refused by name. kUnsupported also for the form before PyTorch
// 1.6, compressed members and big-endian data.
Result<std::unique_ptr<Checkpoint>> open_torch(const std::string& path);

// Little-endian numbers of a weight type, as they lie in a file, to float32.
void weights_to_f32(SourceType type, const uint8_t* bytes, size_t count, float* out);

}  // namespace moka

#endif  // MOKA_CONVERTER_CHECKPOINT_H_
