// The pickle in a file of torch.save, read as data.
//
// A pickle is a program for a small stack machine that may call any function by its name. Here the
// machine has only the instructions that build values. It calls nothing: the few functions that a
// state dict needs (OrderedDict, torch's rebuilding of tensors and parameters) are understood by
// name, and the result of every other one is an opaque value that carries the name.
#ifndef MOKA_CONVERTER_TORCH_PICKLE_H_
#define MOKA_CONVERTER_TORCH_PICKLE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "moka/status.h"

namespace moka {

// A value, by its number. Values may share others, and a list may contain itself.
using PickleRef = uint32_t;

struct PickleTensor {
  std::string storage;                   // name of the member data/<storage>
  std::string type;                      // "FloatStorage" of torch, or "torch.float32"
  uint64_t storage_size = 0;             // numbers, or bytes where type is a dtype's name
  uint64_t offset = 0;                   // numbers
  std::vector<uint64_t> shape, strides;  // of the same length; strides in numbers
};

class Pickle {
 public:
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInteger,
    kFloat,
    kText,
    kBytes,
    kList,
    kTuple,
    kDict,
    kGlobal,   // a class or function, by name
    kStorage,  // of torch: the numbers that tensors share
    kTensor,
    kOpaque,  // made by a function or class that is not known
    kMark,
  };

  // Runs the program. kCorrupt: it is damaged or cut short. kUnsupported: an instruction that
  // torch.save does not write. kOutOfRange: beyond 2^20 values.
  static Result<Pickle> parse(const std::vector<uint8_t>& bytes, const std::string& where);

  PickleRef root() const { return root_; }
  Kind kind(PickleRef ref) const { return values_[ref].kind; }
  int64_t integer(PickleRef ref) const { return values_[ref].integer; }  // kInteger, kBool
  // kText: the text; kGlobal and kOpaque: "module.name".
  const std::string& text(PickleRef ref) const { return texts_[values_[ref].index]; }
  // kDict: key, value, key, value, ...; kList, kTuple: elements.
  const std::vector<PickleRef>& items(PickleRef ref) const { return items_[values_[ref].index]; }
  const PickleTensor& tensor(PickleRef ref) const { return tensors_[values_[ref].index]; }

 private:
  friend class PickleMachine;

  struct Value {
    Kind kind = Kind::kNone;
    uint32_t index = 0;  // into the table of its kind
    int64_t integer = 0;
  };

  std::vector<Value> values_;
  std::vector<std::string> texts_;
  std::vector<std::vector<PickleRef>> items_;
  std::vector<PickleTensor> tensors_;  // storages are tensors without a shape
  PickleRef root_ = 0;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_TORCH_PICKLE_H_
