// PickleMachine: the stack machine of a pickle. Inside of the pickle's reader.
#ifndef MOKA_CONVERTER_TORCH_PICKLE_MACHINE_H_
#define MOKA_CONVERTER_TORCH_PICKLE_MACHINE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "converter/checkpoint_reader.h"
#include "converter/torch_pickle.h"

namespace moka {

class PickleMachine {
 public:
  using Kind = Pickle::Kind;
  static constexpr size_t kMaxValues = size_t{1} << 20;
  static constexpr size_t kMaxPickled =
      4 * kMaxTensors;  // tensors and storages, an optimiser's too

  PickleMachine(const std::vector<uint8_t>& bytes, const std::string& where)
      : bytes_(bytes), where_(where) {}

  Status run() {
    while (!stopped_) {
      start_ = at_;
      MOKA_ASSIGN_OR_RETURN(const uint64_t opcode, number(1));
      MOKA_RETURN_IF_ERROR(step(static_cast<uint8_t>(opcode)));
    }
    return Status();
  }

  Pickle take() { return std::move(out_); }

 private:
  Status step(uint8_t opcode);
  Status step_text(uint8_t opcode, bool* known);
  Status step_container(uint8_t opcode, bool* known);
  Status step_object(uint8_t opcode, bool* known);

  Status corrupt(const std::string& what) const {
    return Status(StatusCode::kCorrupt,
                  where_ + ": the pickle at byte " + std::to_string(start_) + " " + what);
  }

  // ---- bytes ----
  Status need(uint64_t count) const {
    if (count > bytes_.size() - at_) return corrupt("is cut short");
    return Status();
  }
  Result<uint64_t> number(size_t size) {  // little-endian
    MOKA_RETURN_IF_ERROR(need(size));
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | bytes_[at_ + i];
    at_ += size;
    return value;
  }
  Result<std::string> line() {
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(at_);
    const auto end = std::find(begin, bytes_.end(), static_cast<uint8_t>('\n'));
    if (end == bytes_.end()) return corrupt("is cut short");
    std::string text(begin, end);
    at_ += text.size() + 1;
    return text;
  }

  // ---- values ----
  Result<PickleRef> make(Kind kind, size_t index, int64_t integer = 0) {
    if (out_.values_.size() == kMaxValues) {
      return Status(StatusCode::kOutOfRange, where_ + ": the pickle has more than " +
                                                 std::to_string(kMaxValues) + " values");
    }
    Pickle::Value value;
    value.kind = kind;
    value.index = static_cast<uint32_t>(index);
    value.integer = integer;
    out_.values_.push_back(value);
    return static_cast<PickleRef>(out_.values_.size() - 1);
  }
  Status push(Kind kind, size_t index = 0, int64_t integer = 0) {
    MOKA_ASSIGN_OR_RETURN(const PickleRef ref, make(kind, index, integer));
    stack_.push_back(ref);
    return Status();
  }
  Status push_text(Kind kind, std::string text) {
    out_.texts_.push_back(std::move(text));
    return push(kind, out_.texts_.size() - 1);
  }
  Status push_text_of(Kind kind, size_t length_size) {
    MOKA_ASSIGN_OR_RETURN(const uint64_t length, number(length_size));
    MOKA_RETURN_IF_ERROR(need(length));
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(at_);
    std::string text(begin, begin + static_cast<std::ptrdiff_t>(length));
    at_ += text.size();
    return push_text(kind, std::move(text));
  }
  Status push_items(Kind kind, std::vector<PickleRef> items) {
    out_.items_.push_back(std::move(items));
    return push(kind, out_.items_.size() - 1);
  }
  Status push_tensor(Kind kind, PickleTensor tensor) {
    if (out_.tensors_.size() == kMaxPickled) {
      return Status(StatusCode::kOutOfRange, where_ + ": the pickle has more than " +
                                                 std::to_string(kMaxPickled) +
                                                 " tensors and storages");
    }
    out_.tensors_.push_back(std::move(tensor));
    return push(kind, out_.tensors_.size() - 1);
  }
  Status push_opaque(const std::string& name) { return push_text(Kind::kOpaque, name); }
  Status push_long(size_t length_size);

  Kind kind(PickleRef ref) const { return out_.values_[ref].kind; }
  // A mark takes part in nothing but the instructions that look for it.
  Result<PickleRef> pop() {
    if (stack_.empty() || kind(stack_.back()) == Kind::kMark) {
      return corrupt("takes a value from an empty stack");
    }
    const PickleRef ref = stack_.back();
    stack_.pop_back();
    return ref;
  }
  Result<PickleRef> top() const {
    if (stack_.empty() || kind(stack_.back()) == Kind::kMark) {
      return corrupt("takes a value from an empty stack");
    }
    return stack_.back();
  }
  // The values above the last mark, which go with it.
  Result<std::vector<PickleRef>> pop_to_mark() {
    size_t mark = stack_.size();
    while (mark > 0 && kind(stack_[mark - 1]) != Kind::kMark) --mark;
    if (mark == 0) return corrupt("looks for a mark that was not set");
    std::vector<PickleRef> items(stack_.begin() + static_cast<std::ptrdiff_t>(mark), stack_.end());
    stack_.resize(mark - 1);
    return items;
  }
  Status push_tuple(size_t count) {
    std::vector<PickleRef> items(count);
    for (size_t i = count; i-- > 0;) {
      MOKA_ASSIGN_OR_RETURN(items[i], pop());
    }
    return push_items(Kind::kTuple, std::move(items));
  }
  Status get(uint64_t slot) {
    const auto found = memo_.find(slot);
    if (found == memo_.end()) return corrupt("asks for a value that was not stored");
    stack_.push_back(found->second);
    return check_stack();
  }
  Status put(uint64_t slot) {
    MOKA_ASSIGN_OR_RETURN(memo_[slot], top());
    return Status();
  }
  // Instructions that push without making a value could otherwise grow it without end.
  Status check_stack() const {
    if (stack_.size() <= kMaxValues) return Status();
    return Status(StatusCode::kOutOfRange, where_ + ": the pickle's stack has more than " +
                                               std::to_string(kMaxValues) + " values");
  }
  // Adds to a list or dict. What was made by an unknown class swallows them.
  Status extend(PickleRef target, const std::vector<PickleRef>& items, Kind expected) {
    if (kind(target) == Kind::kOpaque) return Status();
    if (kind(target) != expected) return corrupt("adds items to what is no list or dict");
    if (expected == Kind::kDict && items.size() % 2 != 0) return corrupt("has a key without value");
    std::vector<PickleRef>& into = out_.items_[out_.values_[target].index];
    // Each item was on the stack for it, so the lists together are no longer than the program.
    into.insert(into.end(), items.begin(), items.end());
    return Status();
  }

  // ---- what functions make ----
  Status global(const std::string& module, const std::string& name);
  Status reduce(PickleRef function, PickleRef arguments);
  Status rebuild_tensor(const std::string& name, const std::vector<PickleRef>& arguments);
  Status persistent(PickleRef id);
  bool extents(PickleRef ref, std::vector<uint64_t>* out) const;
  const std::string* text_of(PickleRef ref, Kind expected) const {
    return kind(ref) == expected ? &out_.texts_[out_.values_[ref].index] : nullptr;
  }

  const std::vector<uint8_t>& bytes_;
  const std::string& where_;
  size_t at_ = 0;
  size_t start_ = 0;  // of the instruction
  bool stopped_ = false;
  Pickle out_;
  std::vector<PickleRef> stack_;
  std::unordered_map<uint64_t, PickleRef> memo_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_TORCH_PICKLE_MACHINE_H_
