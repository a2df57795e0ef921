// HeaderReader: turns a verified FlatBuffers header into a ModelSpec. Split over loader_model.cc
// (the network), loader_extras.cc (tokenizer, metadata) and loader_layout.cc (the data section).
//
// The verifier has shown that every table, vector and string lies inside the buffer, and nothing
// more. Here every value is bounded. The first failure is kept and the rest of the reading goes on
// with harmless values, so that the code reads like the schema; take status() at the end.
#ifndef MOKA_RUNTIME_LOADER_HEADER_H_
#define MOKA_RUNTIME_LOADER_HEADER_H_

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "moka/span.h"
#include "moka/status.h"
#include "runtime/loader.h"
#include "runtime/model_spec.h"
#include "schema/moka_generated.h"

namespace moka {

class HeaderReader {
 public:
  // Vectors and strings may be shared inside a FlatBuffer, so a small header could ask for any
  // amount of memory. Moka's writer shares nothing: copies never exceed the header's size, and
  // `header_bytes` is the limit of all copies together.
  HeaderReader(const std::string& where, uint64_t header_bytes)
      : where_(where), budget_(header_bytes) {}

  const Status& status() const { return status_; }

  // The whole header. `data` is the data section; pointers into it are made, nothing is read.
  void read(const fb::Model& header, Span<const uint8_t> data, LoadedModel* model);

 private:
  void fail(const std::string& what);
  bool require(bool condition, const char* what);
  void charge(uint64_t bytes);

  // An enum value of the file as Moka's own, whose last member is `Last`.
  template <auto Last, class From>
  auto enumeration(const char* field, From value) {
    using To = decltype(Last);
    static_assert(static_cast<uint8_t>(Last) == static_cast<uint8_t>(From::MAX),
                  "model_spec.h and moka.fbs differ");
    if (static_cast<uint8_t>(value) > static_cast<uint8_t>(From::MAX)) {
      fail(std::string(field) + " is " + std::to_string(static_cast<int>(value)) +
           ", which format version 1 does not have");
      return To{};
    }
    return static_cast<To>(value);
  }

  std::string text(const flatbuffers::String* value);
  std::vector<std::string> texts(
      const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* values);

  template <class T>
  std::vector<T> numbers(const flatbuffers::Vector<T>* values) {
    std::vector<T> result;
    if (values == nullptr) return result;
    charge(uint64_t{values->size()} * sizeof(T));
    if (!status_.ok() || values->size() == 0) return result;
    result.resize(values->size());
    std::memcpy(result.data(), values->data(), result.size() * sizeof(T));
    return result;
  }
  std::vector<TokenId> token_ids(const char* what, const flatbuffers::Vector<uint32_t>* values);

  // loader_model.cc
  Input input(const fb::Model& header);
  Positions positions(const fb::Positions* positions);
  Block block(const fb::Block& block);
  Mixer mixer(const fb::Block& block);
  FeedForward feed_forward(const fb::Block& block);
  Head head(const fb::Model& header);
  Norm norm(const fb::Norm* norm);
  std::optional<Rotation> rotation(const fb::Rotation* rotation);
  Front front(const fb::Front* front);
  Window window(const fb::Window* window);
  LatteMixer latte(const fb::LatteMixer& m);
  MacchiatoMixer macchiato(const fb::MacchiatoMixer& m);
  void unknown_member(const char* field, int type, const void* object);

  // loader_extras.cc
  TokenizerSpec tokenizer(const fb::Tokenizer& tokenizer);
  Normalizer normalizer(const fb::Normalizer& rule);
  PreTokenizer pre_tokenizer(const fb::PreTokenizer& rule);
  SpecialToken special_token(const fb::SpecialToken& token);
  Metadata metadata(const fb::Metadata* metadata);

  // loader_layout.cc
  void read_sections(const fb::Model& header, LoadedModel* model);
  void read_tensors(const fb::Model& header, Span<const uint8_t> data, LoadedModel* model);
  void read_snapshots(const fb::Model& header, Span<const uint8_t> data, LoadedModel* model);
  Tensor tensor(const fb::Tensor& tensor, Span<const uint8_t> data);
  void check_overlaps();
  const uint8_t* locate(const std::string& what, SectionKind kind, uint64_t offset, uint64_t size,
                        Span<const uint8_t> data);

  struct Range {
    uint64_t offset;
    uint64_t size;
  };

  const std::string& where_;
  uint64_t budget_;
  Status status_;
  std::vector<Section> sections_;
  std::vector<Range> ranges_;  // of tensors, scales and snapshots
};

}  // namespace moka

#endif  // MOKA_RUNTIME_LOADER_HEADER_H_
