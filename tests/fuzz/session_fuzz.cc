// Whatever bytes come as a saved session: a refusal that changes nothing, or a session that goes on.
//
// No corpus is needed. The first byte chooses the model (its low three bits) and what the rest is:
// below 64 the saved session as it is, below 128 everything but its checksum, from 128 on changes to
// a good one, four bytes each (two of place, one of width, one of value), with the checksum made right
// again, which no fuzzer could guess.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <variant>
#include <vector>

#include "moka/moka.h"
#include "runtime/checksum.h"
#include "tests/fuzz/targets.h"
#include "tests/spec_builder.h"

namespace {

using moka::test::TestMixer;
using moka::test::TestModel;
using moka::test::TestModelOptions;

constexpr uint32_t kVocab = 20;
constexpr size_t kChecksum = 8;

void require(bool condition) {
  if (!condition) std::abort();
}

using Bytes = std::vector<uint8_t>;

struct Subject {
  TestModel made;  // the memory of the weights
  moka::Model model;
  Bytes before;             // the session that restoring begins from
  std::vector<Bytes> good;  // saved sessions of several lengths
};

moka::Session started(const moka::Model& model, size_t tokens) {
  auto session = model.new_session();
  require(session.ok());
  const auto ids = moka::test::some_tokens(tokens, kVocab);
  require(session.value().append(ids).ok());
  return std::move(session).value();
}

Subject subject(TestModel made) {
  moka::OpenOptions options;
  options.executor.threads = 1;
  options.executor.chunk = 8;
  auto model = moka::Model::from_spec(made.spec, options);
  require(model.ok());
  Subject result{std::move(made), std::move(model).value(), {}, {}};
  result.before = started(result.model, 3).save().value();
  for (const size_t tokens : {size_t{0}, size_t{1}, size_t{4}, size_t{12}}) {
    result.good.push_back(started(result.model, tokens).save().value());
  }
  return result;
}

TestModelOptions small(TestMixer mixer, moka::DType weights) {
  TestModelOptions options;
  options.mixer = mixer, options.weights = weights;
  options.layers = 1, options.width = 8, options.heads = 2, options.latents = 4;
  options.hidden = 8, options.vocab_size = kVocab;
  return options;
}

// The window's weights with attention that keeps every token.
TestModel with_softmax(TestModel model) {
  for (moka::Block& block : model.spec.blocks) {
    const auto window = std::get<moka::WindowMixer>(block.mixer);
    moka::SoftmaxMixer softmax;
    softmax.heads = window.heads;
    softmax.q = window.local_q, softmax.k = window.local_k;
    softmax.v = window.v, softmax.o = window.o;
    block.mixer = softmax;
  }
  return model;
}

// Rings of floats and of halves, latents, convolution with recurrence, learned positions (which end),
// a cache that grows.
const std::vector<Subject>& subjects() {
  static const std::vector<Subject> kSubjects = [] {
    std::vector<Subject> all;
    all.push_back(subject(make_test_model(small(TestMixer::kMacchiato, moka::DType::kF32))));
    all.push_back(subject(make_test_model(small(TestMixer::kMacchiato, moka::DType::kF16))));
    TestModelOptions front = small(TestMixer::kLatte, moka::DType::kI8);
    front.front = moka::FrontKind::kConvRgLru, front.vapor = true;
    all.push_back(subject(make_test_model(front)));
    TestModelOptions learned = small(TestMixer::kWindow, moka::DType::kF32);
    learned.positions = moka::PositionKind::kLearned, learned.max_length = 40;
    all.push_back(subject(make_test_model(learned)));
    all.push_back(
        subject(with_softmax(make_test_model(small(TestMixer::kWindow, moka::DType::kF32)))));
    all.push_back(
        subject(with_softmax(make_test_model(small(TestMixer::kWindow, moka::DType::kF16)))));
    return all;
  }();
  return kSubjects;
}

void seal(Bytes* bytes) {
  if (bytes->size() < kChecksum) return;
  const size_t size = bytes->size() - kChecksum;
  const uint64_t checksum = moka::xxh3_64(bytes->data(), size);
  std::memcpy(bytes->data() + size, &checksum, sizeof checksum);
}

void restore(const Subject& subject, const Bytes& bytes) {
  auto made = subject.model.new_session();
  require(made.ok());
  moka::Session& session = made.value();
  require(session.restore(subject.before).ok());
  const moka::Status status = session.restore(bytes);
  if (!status.ok()) {
    require(!status.message().empty());
    require(session.save().value() == subject.before);
    return;
  }
  // What was accepted is what is saved, reads on, and may be undone by what was there before.
  require(session.save().value() == bytes);
  const auto ids = moka::test::some_tokens(10, kVocab);
  const uint64_t position = session.position();
  const moka::Status read = session.append(ids);
  require(read.ok() ? session.position() == position + ids.size()
                    : read.code() == moka::StatusCode::kOutOfRange ||
                          read.code() == moka::StatusCode::kOutOfMemory);
  require(session.save().ok());
  require(session.restore(subject.before).ok());
  require(session.save().value() == subject.before);
}

}  // namespace

void moka::fuzz::session_fuzz(const uint8_t* data, size_t size) {
  if (size == 0) return;
  const Subject& chosen = subjects()[(data[0] & 7) % subjects().size()];
  Bytes bytes(data + 1, data + size);
  if (data[0] >= 128) {
    bytes = chosen.good[(data[0] >> 3) % chosen.good.size()];
    for (size_t i = 1; i + 4 <= size; i += 4) {
      const size_t place = (data[i] | data[i + 1] << 8) % (bytes.size() - kChecksum);
      // A byte, or a number of 4 that is small, large or negative.
      uint32_t value = data[i + 3];
      if (data[i + 2] & 1) value = ~value;
      if (data[i + 2] & 2) value <<= 24;
      const size_t width = data[i + 2] & 4 ? 4 : 1;
      if (place + width > bytes.size() - kChecksum) continue;
      std::memcpy(bytes.data() + place, &value, width);
    }
  } else if (data[0] >= 64) {
    bytes.resize(bytes.size() + kChecksum);
  }
  if (data[0] >= 64) seal(&bytes);
  restore(chosen, bytes);
}
