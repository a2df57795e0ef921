// What the functions that a pickle names would make: storages, tensors, dicts. None is called.
#include "converter/torch_pickle_machine.h"

namespace moka {
namespace {

constexpr size_t kMaxName = 256;  // of a global

}  // namespace

Status PickleMachine::global(const std::string& module, const std::string& name) {
  if (module.size() + name.size() > kMaxName) return corrupt("names something too long");
  return push_text(Kind::kGlobal, module + "." + name);
}

bool PickleMachine::extents(PickleRef ref, std::vector<uint64_t>* out) const {
  if (kind(ref) != Kind::kTuple && kind(ref) != Kind::kList) return false;
  const std::vector<PickleRef>& items = out_.items(ref);
  if (items.size() > kMaxRank) return false;
  for (const PickleRef item : items) {
    if (kind(item) != Kind::kInteger || out_.integer(item) < 0) return false;
    out->push_back(static_cast<uint64_t>(out_.integer(item)));
  }
  return true;
}

// (storage, offset, size, stride, ...), and of the third version a dtype as the seventh.
Status PickleMachine::rebuild_tensor(const std::string& name,
                                     const std::vector<PickleRef>& arguments) {
  const bool v3 = name == "torch._utils._rebuild_tensor_v3";
  if (arguments.size() < (v3 ? 7 : 4) || kind(arguments[0]) != Kind::kStorage ||
      kind(arguments[1]) != Kind::kInteger || out_.integer(arguments[1]) < 0) {
    return push_opaque(name);
  }
  PickleTensor tensor = out_.tensor(arguments[0]);
  tensor.offset = static_cast<uint64_t>(out_.integer(arguments[1]));
  if (!extents(arguments[2], &tensor.shape) || !extents(arguments[3], &tensor.strides) ||
      tensor.shape.size() != tensor.strides.size()) {
    return push_opaque(name);
  }
  if (v3) {
    const std::string* type = text_of(arguments[6], Kind::kGlobal);
    if (type == nullptr) return push_opaque(name);
    tensor.type = *type;
  }
  return push_tensor(Kind::kTensor, std::move(tensor));
}

Status PickleMachine::reduce(PickleRef function, PickleRef arguments) {
  const std::string* found = text_of(function, Kind::kGlobal);
  if (found == nullptr || kind(arguments) != Kind::kTuple) {
    if (found == nullptr) return push_opaque("a value that is no function");
    return push(Kind::kOpaque, out_.values_[function].index);
  }
  const std::string name = *found;  // what is pushed may move the original
  const std::vector<PickleRef>& given = out_.items(arguments);  // until something is pushed
  if (name == "collections.OrderedDict" || name == "collections.defaultdict") {
    return push_items(Kind::kDict, {});
  }
  if (name == "torch._utils._rebuild_tensor" || name == "torch._utils._rebuild_tensor_v2" ||
      name == "torch._utils._rebuild_tensor_v3") {
    return rebuild_tensor(name, given);
  }
  if ((name == "torch._utils._rebuild_parameter" ||
       name == "torch._utils._rebuild_parameter_with_state") &&
      !given.empty() && kind(given[0]) == Kind::kTensor) {
    stack_.push_back(given[0]);
    return check_stack();
  }
  if (name == "torch._tensor._rebuild_from_type_v2" && given.size() >= 3 &&
      kind(given[2]) == Kind::kTuple) {
    const std::string* inner = text_of(given[0], Kind::kGlobal);
    if (inner != nullptr && inner->rfind("torch._utils._rebuild_tensor", 0) == 0) {
      const std::string inner_name = *inner;
      return rebuild_tensor(inner_name, out_.items(given[2]));
    }
  }
  if (name == "torch.Size" && given.size() == 1 && kind(given[0]) == Kind::kTuple) {
    stack_.push_back(given[0]);
    return check_stack();
  }
  return push(Kind::kOpaque, out_.values_[function].index);  // the name
}

// ("storage", class, name of the member, device, count)
Status PickleMachine::persistent(PickleRef id) {
  if (kind(id) == Kind::kTuple && out_.items(id).size() >= 5) {
    const std::vector<PickleRef>& parts = out_.items(id);
    const std::string* tag = text_of(parts[0], Kind::kText);
    const std::string* type = text_of(parts[1], Kind::kGlobal);
    const std::string* key = text_of(parts[2], Kind::kText);
    if (tag != nullptr && *tag == "storage" && type != nullptr && key != nullptr &&
        kind(parts[4]) == Kind::kInteger && out_.integer(parts[4]) >= 0) {
      PickleTensor storage;
      storage.storage = *key;
      storage.type = *type;
      storage.storage_size = static_cast<uint64_t>(out_.integer(parts[4]));
      return push_tensor(Kind::kStorage, std::move(storage));
    }
  }
  return corrupt("has a reference that is no storage of torch");
}

}  // namespace moka
