#include "converter/torch_pickle.h"

#include "converter/torch_pickle_machine.h"

namespace moka {
namespace {

using Kind = Pickle::Kind;

// clang-format off
// Instructions of pickle protocols 2 to 5.
enum Opcode : uint8_t {
  kMarkOp = '(', kStop = '.', kPop = '0', kPopMark = '1', kDup = '2', kBinInt = 'J',
  kBinInt1 = 'K', kBinInt2 = 'M', kNoneOp = 'N', kBinPersId = 'Q', kReduce = 'R',
  kBinString = 'T', kShortBinString = 'U', kBinUnicode = 'X', kAppend = 'a', kBuild = 'b',
  kGlobalOp = 'c', kDictOp = 'd', kEmptyDict = '}', kAppends = 'e', kBinGet = 'h',
  kLongBinGet = 'j', kListOp = 'l', kEmptyList = ']', kBinPut = 'q', kLongBinPut = 'r',
  kSetItem = 's', kTupleOp = 't', kEmptyTuple = ')', kSetItems = 'u', kBinFloat = 'G',
  kBinBytes = 'B', kShortBinBytes = 'C', kProto = 0x80, kNewObj = 0x81, kTuple1 = 0x85,
  kTuple2 = 0x86, kTuple3 = 0x87, kNewTrue = 0x88, kNewFalse = 0x89, kLong1 = 0x8a,
  kLong4 = 0x8b, kShortBinUnicode = 0x8c, kBinUnicode8 = 0x8d, kBinBytes8 = 0x8e,
  kEmptySet = 0x8f, kAddItems = 0x90, kFrozenSet = 0x91, kNewObjEx = 0x92, kStackGlobal = 0x93,
  kMemoize = 0x94, kFrame = 0x95, kByteArray8 = 0x96,
};
// clang-format on

}  // namespace

// Whole numbers of any length, of which only those that fit 64 bits have a meaning here.
Status PickleMachine::push_long(size_t length_size) {
  MOKA_ASSIGN_OR_RETURN(const uint64_t length, number(length_size));
  MOKA_RETURN_IF_ERROR(need(length));
  if (length > 8) {
    at_ += static_cast<size_t>(length);
    return push_opaque("int beyond 64 bits");
  }
  MOKA_ASSIGN_OR_RETURN(uint64_t bits, number(static_cast<size_t>(length)));
  const uint64_t sign = length == 0 ? 0 : uint64_t{1} << (8 * length - 1);
  if ((bits & sign) != 0) bits |= ~((sign << 1) - 1);
  return push(Kind::kInteger, 0, static_cast<int64_t>(bits));
}

Status PickleMachine::step_text(uint8_t opcode, bool* known) {
  switch (opcode) {
    case kShortBinString:
    case kShortBinUnicode: return push_text_of(Kind::kText, 1);
    case kBinString:
    case kBinUnicode: return push_text_of(Kind::kText, 4);
    case kBinUnicode8: return push_text_of(Kind::kText, 8);
    case kShortBinBytes: return push_text_of(Kind::kBytes, 1);
    case kBinBytes: return push_text_of(Kind::kBytes, 4);
    case kBinBytes8:
    case kByteArray8: return push_text_of(Kind::kBytes, 8);
    default: *known = false; return Status();
  }
}

Status PickleMachine::step_container(uint8_t opcode, bool* known) {
  switch (opcode) {
    case kEmptyList: return push_items(Kind::kList, {});
    case kEmptyTuple: return push_items(Kind::kTuple, {});
    case kEmptyDict: return push_items(Kind::kDict, {});
    case kEmptySet: return push_opaque("set");
    case kTuple1: return push_tuple(1);
    case kTuple2: return push_tuple(2);
    case kTuple3: return push_tuple(3);
    case kTupleOp:
    case kListOp:
    case kDictOp:
    case kFrozenSet: {
      MOKA_ASSIGN_OR_RETURN(std::vector<PickleRef> items, pop_to_mark());
      if (opcode == kFrozenSet) return push_opaque("frozenset");
      if (opcode == kDictOp && items.size() % 2 != 0) return corrupt("has a key without value");
      return push_items(opcode == kTupleOp  ? Kind::kTuple
                        : opcode == kListOp ? Kind::kList
                                            : Kind::kDict,
                        std::move(items));
    }
    case kAppend: {
      MOKA_ASSIGN_OR_RETURN(const PickleRef item, pop());
      MOKA_ASSIGN_OR_RETURN(const PickleRef list, top());
      return extend(list, {item}, Kind::kList);
    }
    case kSetItem: {
      MOKA_ASSIGN_OR_RETURN(const PickleRef value, pop());
      MOKA_ASSIGN_OR_RETURN(const PickleRef key, pop());
      MOKA_ASSIGN_OR_RETURN(const PickleRef dict, top());
      return extend(dict, {key, value}, Kind::kDict);
    }
    case kAppends:
    case kSetItems:
    case kAddItems: {
      MOKA_ASSIGN_OR_RETURN(const std::vector<PickleRef> items, pop_to_mark());
      MOKA_ASSIGN_OR_RETURN(const PickleRef target, top());
      return extend(target, items, opcode == kSetItems ? Kind::kDict : Kind::kList);
    }
    default: *known = false; return Status();
  }
}

Status PickleMachine::step_object(uint8_t opcode, bool* known) {
  switch (opcode) {
    case kGlobalOp: {
      MOKA_ASSIGN_OR_RETURN(const std::string module, line());
      MOKA_ASSIGN_OR_RETURN(const std::string name, line());
      return global(module, name);
    }
    case kStackGlobal: {
      MOKA_ASSIGN_OR_RETURN(const PickleRef name, pop());
      MOKA_ASSIGN_OR_RETURN(const PickleRef module, pop());
      const std::string* name_text = text_of(name, Kind::kText);
      const std::string* module_text = text_of(module, Kind::kText);
      if (name_text == nullptr || module_text == nullptr)
        return corrupt("names something by no text");
      const std::string module_copy = *module_text, name_copy = *name_text;
      return global(module_copy, name_copy);
    }
    case kReduce:
    case kNewObj:
    case kNewObjEx: {
      if (opcode == kNewObjEx) MOKA_RETURN_IF_ERROR(pop().status());  // arguments by name
      MOKA_ASSIGN_OR_RETURN(const PickleRef arguments, pop());
      MOKA_ASSIGN_OR_RETURN(const PickleRef function, pop());
      return reduce(function, arguments);
    }
    case kBuild:  // attributes: of no use, whatever the object is
      MOKA_RETURN_IF_ERROR(pop().status());
      return top().status();
    case kBinPersId: {
      MOKA_ASSIGN_OR_RETURN(const PickleRef id, pop());
      return persistent(id);
    }
    default: *known = false; return Status();
  }
}

Status PickleMachine::step(uint8_t opcode) {
  for (const auto part :
       {&PickleMachine::step_text, &PickleMachine::step_container, &PickleMachine::step_object}) {
    bool known = true;
    Status status = (this->*part)(opcode, &known);
    if (known) return status;
  }
  switch (opcode) {
    case kProto: {
      MOKA_ASSIGN_OR_RETURN(const uint64_t version, number(1));
      if (version >= 2 && version <= 5) return Status();
      return Status(StatusCode::kUnsupported, where_ + ": has pickle protocol " +
                                                  std::to_string(version) + ", expected 2 to 5");
    }
    case kFrame: return number(8).status();  // a hint of how much to read at once
    case kStop: {
      MOKA_ASSIGN_OR_RETURN(out_.root_, pop());
      stopped_ = true;
      return Status();
    }
    case kMarkOp: return push(Kind::kMark);
    case kPop: return pop().status();
    case kPopMark: return pop_to_mark().status();
    case kDup: {
      MOKA_ASSIGN_OR_RETURN(const PickleRef ref, top());
      stack_.push_back(ref);
      return check_stack();
    }
    case kNoneOp: return push(Kind::kNone);
    case kNewTrue: return push(Kind::kBool, 0, 1);
    case kNewFalse: return push(Kind::kBool, 0, 0);
    case kBinInt1:
    case kBinInt2: {
      MOKA_ASSIGN_OR_RETURN(const uint64_t value, number(opcode == kBinInt1 ? 1 : 2));
      return push(Kind::kInteger, 0, static_cast<int64_t>(value));
    }
    case kBinInt: {
      MOKA_ASSIGN_OR_RETURN(const uint64_t bits, number(4));
      return push(Kind::kInteger, 0, static_cast<int32_t>(static_cast<uint32_t>(bits)));
    }
    case kLong1: return push_long(1);
    case kLong4: return push_long(4);
    case kBinFloat: MOKA_RETURN_IF_ERROR(number(8).status()); return push(Kind::kFloat);
    case kBinGet:
    case kLongBinGet: {
      MOKA_ASSIGN_OR_RETURN(const uint64_t slot, number(opcode == kBinGet ? 1 : 4));
      return get(slot);
    }
    case kBinPut:
    case kLongBinPut: {
      MOKA_ASSIGN_OR_RETURN(const uint64_t slot, number(opcode == kBinPut ? 1 : 4));
      return put(slot);
    }
    case kMemoize: return put(memo_.size());
    default:
      return Status(StatusCode::kUnsupported, where_ + ": the pickle at byte " +
                                                  std::to_string(start_) + " has the instruction " +
                                                  std::to_string(opcode) +
                                                  ", which torch.save does not write");
  }
}

Result<Pickle> Pickle::parse(const std::vector<uint8_t>& bytes, const std::string& where) {
  PickleMachine machine(bytes, where);
  MOKA_RETURN_IF_ERROR(machine.run());
  return machine.take();
}

}  // namespace moka
