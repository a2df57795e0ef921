// Checkpoints of torch.save: a state dict, alone or inside of a training checkpoint.
#include <array>
#include <utility>

#include "converter/checkpoint_reader.h"
#include "converter/readers.h"
#include "converter/torch_archive.h"
#include "converter/torch_pickle.h"

namespace moka {
namespace {

using Kind = Pickle::Kind;

constexpr uint64_t kMaxPickle = uint64_t{64} << 20;
constexpr uint64_t kMaxGathered = uint64_t{1} << 30;  // bytes of a tensor that is not contiguous
constexpr size_t kMaxNesting = 4;                     // of dicts that hold the state dict
constexpr size_t kMaxNotes = 8;
constexpr const char* kSaveAgain =
    "load it with torch.load and save its state_dict() again with torch.save or "
    "safetensors.torch.save_file";

// Where a training checkpoint keeps the model, in the order of looking.
constexpr const char* kStateKeys[] = {"state_dict", "model_state_dict", "model", "module"};
constexpr const char* kStepKeys[] = {"step", "global_step", "iteration"};

struct Place {
  uint64_t offset = 0;            // of the first number, in bytes of the file
  std::vector<uint64_t> strides;  // in numbers; empty: contiguous
  uint64_t span = 0;              // numbers from the first to the last
};

// Storage classes of torch, and dtypes by their own name. False: another one.
bool torch_source_type(const std::string& name, SourceType* type) {
  struct Name {
    const char* name;
    SourceType type;
  };
  constexpr Name kNames[] = {
      {"FloatStorage", SourceType::kF32},     {"HalfStorage", SourceType::kF16},
      {"BFloat16Storage", SourceType::kBF16}, {"DoubleStorage", SourceType::kF64},
      {"LongStorage", SourceType::kI64},      {"IntStorage", SourceType::kI32},
      {"ShortStorage", SourceType::kI16},     {"CharStorage", SourceType::kI8},
      {"ByteStorage", SourceType::kU8},       {"BoolStorage", SourceType::kBool},
  };
  const std::string torch = "torch.";
  if (name.rfind(torch, 0) != 0) return false;
  std::string rest = name.substr(torch.size());
  if (rest.rfind("cuda.", 0) == 0) rest = rest.substr(5);  // of old versions, trained on a GPU
  for (const Name& known : kNames) {
    if (rest != known.name) continue;
    *type = known.type;
    return true;
  }
  return numpy_source_type(rest, type);  // torch.float32 and the like
}

class TorchCheckpoint : public Checkpoint {
 public:
  explicit TorchCheckpoint(TorchArchive archive)
      : Checkpoint(CheckpointForm::kPyTorch), archive_(std::move(archive)) {
    files_ = {path()};
  }

  Status open();
  void strip();
  Status read(size_t tensor, uint64_t first, size_t count, float* out) override;

 private:
  const std::string& path() const { return archive_.file().path(); }
  std::string where(const std::string& name) const {
    return path() + ": tensor " + in_quotes(name);
  }
  Status check_byte_order() const;
  Result<Pickle> read_pickle() const;
  Result<PickleRef> find_state(const Pickle& pickle);
  Status read_state(const Pickle& pickle, PickleRef state);
  Status add(const std::string& name, const PickleTensor& source);
  Status hold(size_t tensor);

  TorchArchive archive_;
  std::vector<Place> places_;
  size_t held_ = static_cast<size_t>(-1);  // the tensor whose numbers are gathered from bytes_
  std::vector<uint8_t> bytes_;
};

// The value of a text key of a dict. False: it has none.
bool find(const Pickle& pickle, PickleRef dict, const std::string& key, PickleRef* value) {
  const std::vector<PickleRef>& items = pickle.items(dict);
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    if (pickle.kind(items[i]) != Kind::kText || pickle.text(items[i]) != key) continue;
    *value = items[i + 1];
    return true;
  }
  return false;
}

bool has_tensors(const Pickle& pickle, PickleRef dict) {
  const std::vector<PickleRef>& items = pickle.items(dict);
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    const PickleRef value = items[i + 1];
    if (pickle.kind(value) == Kind::kTensor) return true;
    // Of a kind that is not read, which is then said.
    if (pickle.kind(value) == Kind::kOpaque &&
        pickle.text(value).rfind("torch._utils._rebuild", 0) == 0) {
      return true;
    }
  }
  return false;
}

// The first few keys of a dict, for a message.
std::string keys_of(const Pickle& pickle, PickleRef dict) {
  const std::vector<PickleRef>& items = pickle.items(dict);
  std::string text;
  for (size_t i = 0; i + 1 < items.size() && i < 20; i += 2) {
    if (pickle.kind(items[i]) != Kind::kText) continue;
    text += (text.empty() ? "" : ", ") + in_quotes(pickle.text(items[i]));
  }
  return text.empty() ? "nothing" : text;
}

std::string kind_words(const Pickle& pickle, PickleRef ref) {
  switch (pickle.kind(ref)) {
    case Kind::kNone: return "None";
    case Kind::kBool:
    case Kind::kInteger:
    case Kind::kFloat: return "a number";
    case Kind::kText: return "text";
    case Kind::kBytes: return "bytes";
    case Kind::kList:
    case Kind::kTuple: return "a list";
    case Kind::kDict: return "a dict";
    case Kind::kTensor: return "a tensor";
    case Kind::kStorage: return "a storage";
    default: return "an object of " + in_quotes(pickle.text(ref));
  }
}

Status TorchCheckpoint::check_byte_order() const {
  if (!archive_.has("byteorder")) return Status();  // older than the record: little
  MOKA_ASSIGN_OR_RETURN(const TorchArchive::Member member, archive_.find("byteorder"));
  std::string text(static_cast<size_t>(std::min<uint64_t>(member.size, 16)), '\0');
  MOKA_RETURN_IF_ERROR(archive_.file().read(member.offset, text.data(), text.size()));
  if (text == "little") return Status();
  return Status(StatusCode::kUnsupported, path() + ": its byte order is " + in_quotes(text) +
                                              ", expected \"little\"; " + kSaveAgain +
                                              " on a little-endian machine");
}

Result<Pickle> TorchCheckpoint::read_pickle() const {
  MOKA_ASSIGN_OR_RETURN(const TorchArchive::Member member, archive_.find("data.pkl"));
  if (member.size > kMaxPickle) {
    return Status(StatusCode::kOutOfRange,
                  path() + ": data.pkl has " + std::to_string(member.size) +
                      " bytes, expected at most " + std::to_string(kMaxPickle));
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(member.size));
  MOKA_RETURN_IF_ERROR(archive_.file().read(member.offset, bytes.data(), bytes.size()));
  return Pickle::parse(bytes, path());
}

// The dict of tensors: the root, or below it under one of the usual names.
Result<PickleRef> TorchCheckpoint::find_state(const Pickle& pickle) {
  PickleRef dict = pickle.root();
  std::string under;
  for (size_t depth = 0; depth < kMaxNesting; ++depth) {
    if (pickle.kind(dict) != Kind::kDict) {
      return Status(StatusCode::kUnsupported, path() + ": " + (under.empty() ? "it" : under) +
                                                  " is " + kind_words(pickle, dict) +
                                                  ", expected a state dict; " + kSaveAgain);
    }
    PickleRef step = 0;
    for (const char* key : kStepKeys) {
      if (!step_ && find(pickle, dict, key, &step) && pickle.kind(step) == Kind::kInteger &&
          pickle.integer(step) >= 0) {
        step_ = static_cast<uint64_t>(pickle.integer(step));
      }
    }
    const char* chosen = nullptr;
    PickleRef inner = 0, candidate = 0;
    for (const char* key : kStateKeys) {
      if (!find(pickle, dict, key, &candidate) || pickle.kind(candidate) == Kind::kTensor) continue;
      if (chosen != nullptr) {
        notes_.push_back("the weights under " + in_quotes(chosen) + " are taken; there is also " +
                         in_quotes(key));
        continue;
      }
      chosen = key;
      inner = candidate;
    }
    if (chosen == nullptr) {
      if (has_tensors(pickle, dict)) return dict;
      return Status(StatusCode::kNotFound,
                    path() + ": " + (under.empty() ? "it" : under) + " holds no tensors but " +
                        keys_of(pickle, dict) +
                        "; expected a state dict, alone or under \"state_dict\", "
                        "\"model_state_dict\", \"model\" or \"module\"");
    }
    notes_.push_back("the weights are under " + in_quotes(chosen));
    under = "the value under " + in_quotes(chosen);
    dict = inner;
  }
  return Status(StatusCode::kNotFound, path() + ": dicts within dicts, and no state dict");
}

Status TorchCheckpoint::read_state(const Pickle& pickle, PickleRef state) {
  const std::vector<PickleRef>& items = pickle.items(state);
  size_t passed_over = 0;
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    const PickleRef key = items[i], value = items[i + 1];
    if (pickle.kind(key) != Kind::kText) {
      return Status(StatusCode::kCorrupt, path() + ": the state dict has a key that is " +
                                              kind_words(pickle, key) + ", expected text");
    }
    const std::string& name = pickle.text(key);
    if (pickle.kind(value) == Kind::kTensor) {
      MOKA_RETURN_IF_ERROR(add(name, pickle.tensor(value)));
    } else if (pickle.kind(value) == Kind::kOpaque) {
      // It may be a weight: what is not understood is not left out in silence.
      return Status(StatusCode::kUnsupported, where(name) + " is made by " +
                                                  in_quotes(pickle.text(value)) +
                                                  ", which is not read; " + kSaveAgain);
    } else if (++passed_over <= kMaxNotes) {
      notes_.push_back(in_quotes(name) + " is " + kind_words(pickle, value) +
                       " and no tensor; it was passed over");
    }
  }
  if (passed_over > kMaxNotes) {
    notes_.push_back("and " + std::to_string(passed_over - kMaxNotes) +
                     " more values that are no tensors were passed over");
  }
  return Status();
}

// The bytes from the first to the last number, in storage of so many numbers.
Status TorchCheckpoint::add(const std::string& name, const PickleTensor& source) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.shape = source.shape;
  if (name.size() > kMaxTensorName || tensors_.size() == kMaxTensors) {
    return Status(StatusCode::kOutOfRange, path() + ": has more than " +
                                               std::to_string(kMaxTensors) +
                                               " tensors, or one whose name is longer than " +
                                               std::to_string(kMaxTensorName) + " bytes");
  }
  MOKA_RETURN_IF_ERROR(count_elements(where(name), &tensor));
  if (!torch_source_type(source.type, &tensor.type)) {
    return unknown_source_type(where(name), source.type);
  }
  MOKA_ASSIGN_OR_RETURN(const TorchArchive::Member member, archive_.find("data/" + source.storage));
  const uint64_t size = source_type_size(tensor.type);
  const uint64_t stored = member.size / size;  // numbers
  Place place;
  if (tensor.elements != 0) {
    uint64_t last = 0;
    for (size_t i = 0; i < source.shape.size(); ++i) {
      const uint64_t steps = source.shape[i] - 1;
      const bool fits = steps == 0 || source.strides[i] <= (stored - last) / steps;
      if (!fits || (last += steps * source.strides[i]) > stored) {
        last = stored;
        break;
      }
    }
    if (source.offset > stored || last >= stored - source.offset) {
      return Status(StatusCode::kCorrupt,
                    where(name) + ": reaches beyond its storage " + in_quotes(source.storage) +
                        " of " + std::to_string(member.size) + " bytes, with " +
                        source_type_name(tensor.type) + " " + tensor.shape_string() + " from " +
                        std::to_string(source.offset) + " on");
    }
    place.offset = member.offset + source.offset * size;
    place.span = last + 1;
    uint64_t expected = 1;
    bool contiguous = true;
    for (size_t i = source.shape.size(); i-- > 0; expected *= source.shape[i]) {
      contiguous = contiguous && (source.shape[i] == 1 || source.strides[i] == expected);
    }
    if (!contiguous) place.strides = source.strides;
    if (!contiguous && place.span > kMaxGathered / size) {
      return Status(StatusCode::kUnsupported,
                    where(name) + ": is not contiguous and spans more than " +
                        std::to_string(kMaxGathered) +
                        " bytes; save it again after tensor.contiguous()");
    }
  }
  tensors_.push_back(std::move(tensor));
  places_.push_back(std::move(place));
  return Status();
}

Status TorchCheckpoint::open() {
  MOKA_RETURN_IF_ERROR(check_byte_order());
  MOKA_ASSIGN_OR_RETURN(const Pickle pickle, read_pickle());
  MOKA_ASSIGN_OR_RETURN(const PickleRef state, find_state(pickle));
  MOKA_RETURN_IF_ERROR(read_state(pickle, state));
  if (tensors_.empty()) {
    return Status(StatusCode::kNotFound,
                  path() + ": the state dict holds no tensors but " + keys_of(pickle, state));
  }
  return sort_tensors(path(), &tensors_, &places_);
}

void TorchCheckpoint::strip() {
  const std::string taken = strip_wrappers(&tensors_);
  if (!taken.empty()) notes_.push_back("all names begin with " + in_quotes(taken));
}

// Takes the storage of a tensor that is not contiguous into memory: its numbers are read in an order
// that jumps.
Status TorchCheckpoint::hold(size_t tensor) {
  if (held_ == tensor) return Status();
  held_ = static_cast<size_t>(-1);
  bytes_ = std::vector<uint8_t>();
  bytes_.resize(static_cast<size_t>(places_[tensor].span) *
                source_type_size(tensors_[tensor].type));
  MOKA_RETURN_IF_ERROR(archive_.file().read(places_[tensor].offset, bytes_.data(), bytes_.size()));
  held_ = tensor;
  return Status();
}

Status TorchCheckpoint::read(size_t tensor, uint64_t first, size_t count, float* out) {
  const Place& place = places_[tensor];
  const SourceType type = tensors_[tensor].type;
  const size_t size = source_type_size(type);
  if (place.strides.empty()) {
    return read_weights(archive_.file(), place.offset + first * size, type, count, out);
  }
  MOKA_RETURN_IF_ERROR(hold(tensor));
  const std::vector<uint64_t>& shape = tensors_[tensor].shape;
  std::array<uint64_t, kMaxRank> index{};
  uint64_t at = 0, rest = first;
  for (size_t i = shape.size(); i-- > 0; rest /= shape[i]) {
    index[i] = rest % shape[i];
    at += index[i] * place.strides[i];
  }
  for (size_t n = 0; n < count; ++n) {
    weights_to_f32(type, bytes_.data() + static_cast<size_t>(at) * size, 1, out + n);
    for (size_t i = shape.size(); i-- > 0;) {
      at += place.strides[i];
      if (++index[i] < shape[i]) break;
      at -= shape[i] * place.strides[i];
      index[i] = 0;
    }
  }
  return Status();
}

// What torch.save wrote before version 1.6 begins with a pickle, most often of this number.
Status refuse_bare_pickle(const std::string& path) {
  return Status(StatusCode::kUnsupported,
                path +
                    ": is a pickle without a zip archive, as torch.save wrote it before PyTorch "
                    "1.6; " +
                    kSaveAgain);
}

Result<std::unique_ptr<TorchCheckpoint>> open_archive(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
  uint8_t head[2] = {};
  if (file.size() >= sizeof head) MOKA_RETURN_IF_ERROR(file.read(0, head, sizeof head));
  if (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5) return refuse_bare_pickle(path);
  MOKA_ASSIGN_OR_RETURN(TorchArchive archive, TorchArchive::open(path));
  auto checkpoint = std::make_unique<TorchCheckpoint>(std::move(archive));
  MOKA_RETURN_IF_ERROR(checkpoint->open());
  return checkpoint;
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_torch(const std::string& path) {
  if constexpr (!kReadsPyTorch) {
    return reader_left_out(path, "PyTorch");
  } else {
    MOKA_ASSIGN_OR_RETURN(auto checkpoint, open_archive(path));
    checkpoint->strip();
    return std::unique_ptr<Checkpoint>(std::move(checkpoint));
  }
}

Result<std::unique_ptr<Checkpoint>> open_torch_unstripped(const std::string& path) {
  if constexpr (!kReadsPyTorch) {
    return reader_left_out(path, "PyTorch");
  } else {
    MOKA_ASSIGN_OR_RETURN(auto checkpoint, open_archive(path));
    return std::unique_ptr<Checkpoint>(std::move(checkpoint));
  }
}

}  // namespace moka
