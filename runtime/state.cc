#include "runtime/state.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/checksum.h"
#include "runtime/kernels/kernels.h"
#include "runtime/little_endian.h"

namespace moka {
namespace {

constexpr char kMagic[8] = {'M', 'O', 'K', 'A', 'S', 'T', 'A', 'T'};
constexpr uint32_t kStateVersion = 3;
// Magic, version, logits, model, position, memory, floats, halves.
constexpr size_t kHeaderBytes = 8 + 4 + 4 + 8 + 8 + 8 + 8 + 8;
constexpr size_t kChecksumBytes = 8;

// Calls visit(first, count) for each contiguous stretch of meaningful numbers, floats or halves
// (uint16_t), in the fixed order of the serialised form. Without `values` only the counts are
// right, and stretches of one kind that follow each other may come as one.
template <class Visit>
class StateWalk {
 public:
  StateWalk(const Plan& plan, bool values, float* state, SoftmaxCache* cache, Visit& visit)
      : plan_(plan), values_(values), state_(state), cache_(cache), visit_(visit) {}

  void walk(uint64_t position, uint64_t memory) {
    for (const BlockPlan& block : plan_.blocks) {
      walk_mixer(block.mixer, block.mixer.reach == Reach::kMemory ? memory : position);
    }
    // A memory that was read whole is in the latents above; nothing continues its encoder.
    if (!plan_.memory_whole) {
      for (const BlockPlan& block : plan_.memory_blocks) walk_mixer(block.mixer, memory);
    }
    const HeadPlan& head = plan_.head;
    if (head.pooled && head.pooling != Pooling::kLast) at(head.pool, plan_.width);
    if (head.pooled && head.pooling == Pooling::kMean) at(head.carry, plan_.width);
  }

 private:
  void at(size_t offset, size_t count) { visit_(values_ ? state_ + offset : nullptr, count); }

  void walk_mixer(const MixerPlan& mixer, uint64_t position) {
    if (mixer.reach == Reach::kAll) return;
    const MixerState& state = mixer.state;
    if (mixer.latent) {
      walk_latents(mixer, state.maximum, state.norm, state.sum);
      if (position >= kArchiveTokens) {
        walk_latents(mixer, state.archive_maximum, state.archive_norm, state.archive_mean);
        at(state.archive_carry, mixer.heads * mixer.lh);
      }
    }
    if (mixer.window && mixer.half_window) walk_window<uint16_t>(mixer, position);
    if (mixer.window && !mixer.half_window) walk_window<float>(mixer, position);
    if (mixer.front.conv) at(state.conv, (mixer.front.taps - 1) * plan_.width);
    if (mixer.front.rglru) at(state.hidden, plan_.width);
  }

  void walk_latents(const MixerPlan& mixer, size_t maximum, size_t norm, size_t sum) {
    const size_t latents = mixer.heads * mixer.lh;
    at(maximum, latents);
    at(norm, latents);
    for (size_t l = 0; l < latents; ++l) at(sum + l * mixer.dh_pad, mixer.dh);
  }

  // From the oldest token to the newest; T is what keys and values are kept as.
  template <class T>
  void walk_window(const MixerPlan& mixer, uint64_t position) {
    const uint64_t fill = mixer.growing ? position : std::min<uint64_t>(position, mixer.capacity);
    if (!values_) {  // without a walk: the position may be anything that a file says
      visit_(static_cast<T*>(nullptr), fill * mixer.heads * 2 * mixer.dh);
      return;
    }
    void* keys_begin = mixer.growing ? cache_->keys(mixer) : state_ + mixer.state.keys;
    void* values_begin = mixer.growing ? cache_->values(mixer) : state_ + mixer.state.values;
    T *keys = static_cast<T*>(keys_begin), *values = static_cast<T*>(values_begin);
    const size_t capacity = mixer.growing ? cache_->capacity() : mixer.capacity;
    const size_t cp = pad_row(capacity);
    for (uint64_t i = position - fill; i < position; ++i) {
      const size_t slot = static_cast<size_t>(i % capacity);
      for (size_t h = 0; h < mixer.heads; ++h) {
        for (size_t d = 0; d < mixer.dh; ++d) {
          visit_(keys + (h * mixer.dh + d) * cp + slot, 1);
        }
        visit_(values + (h * capacity + slot) * mixer.dh_pad, mixer.dh);
      }
    }
  }

  const Plan& plan_;
  const bool values_;
  float* state_;
  SoftmaxCache* cache_;
  Visit& visit_;
};

template <class T>
void put(uint8_t*& at, T value) {
  put_little_endian(value, at);
  at += sizeof(T);
}

template <class T>
T get(const uint8_t*& at) {
  const T value = get_little_endian<T>(at);
  at += sizeof(T);
  return value;
}

template <class Visit>
void walk_state(const Plan& plan, float* state, SoftmaxCache* cache, uint64_t position,
                uint64_t memory, Visit& visit) {
  StateWalk<Visit>(plan, true, state, cache, visit).walk(position, memory);
}

// The counts alone.
template <class Visit>
void walk_counts(const Plan& plan, uint64_t position, uint64_t memory, Visit& visit) {
  StateWalk<Visit>(plan, false, nullptr, nullptr, visit).walk(position, memory);
}

struct StateCounts {
  uint64_t float_count = 0, half_count = 0;
  void operator()(const float*, uint64_t count) { float_count += count; }
  void operator()(const uint16_t*, uint64_t count) { half_count += count; }
};

StateCounts serialised_counts(const Plan& plan, uint64_t position, uint64_t memory) {
  StateCounts counts;
  walk_counts(plan, position, memory, counts);
  return counts;
}

// Halves go by memcpy: the array that holds them is one of floats.
struct StateWriter {
  uint8_t* at;
  void operator()(const float* values, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      uint32_t bits;
      std::memcpy(&bits, values + i, sizeof(bits));
      put(at, bits);
    }
  }
  void operator()(const uint16_t* values, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      uint16_t bits;
      std::memcpy(&bits, values + i, sizeof(bits));
      put(at, bits);
    }
  }
};

struct StateReader {
  const uint8_t* at;
  void operator()(float* values, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      const uint32_t bits = get<uint32_t>(at);
      std::memcpy(values + i, &bits, sizeof(bits));
    }
  }
  void operator()(uint16_t* values, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      const uint16_t bits = get<uint16_t>(at);
      std::memcpy(values + i, &bits, sizeof(bits));
    }
  }
};

// Whether all values are finite: no session that Moka wrote holds others.
struct FiniteCheck {
  const uint8_t* at;
  bool finite = true;
  void operator()(const float*, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      finite = (get<uint32_t>(at) & 0x7f800000u) != 0x7f800000u && finite;
    }
  }
  void operator()(const uint16_t*, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      finite = (get<uint16_t>(at) & 0x7c00u) != 0x7c00u && finite;
    }
  }
};

}  // namespace

void reset_state(const Plan& plan, float* state) {
  // Bytes, because halves are in it.
  if (plan.state_floats > 0) std::memset(state, 0, plan.state_floats * sizeof(float));
  begin_state(plan, state);
}

void begin_state(const Plan& plan, float* state) {
  for (const auto* blocks : {&plan.blocks, &plan.memory_blocks}) {
    for (const BlockPlan& block : *blocks) {
      const MixerPlan& mixer = block.mixer;
      if (!mixer.latent) continue;
      for (const size_t offset : {mixer.state.maximum, mixer.state.archive_maximum}) {
        std::fill(state + offset, state + offset + mixer.heads * mixer.lh,
                  std::numeric_limits<float>::lowest());
      }
    }
  }
}

namespace {

// What a mixer keeps for later, and empty as yet after `position` steps, lies between its parts:
// the archive before kArchiveTokens, and rows of values that no token had.
void copy_mixer_state(const MixerPlan& mixer, size_t width, const float* from, uint64_t position,
                      float* to) {
  const auto copy = [&](size_t offset, size_t floats) {
    std::memcpy(to + offset, from + offset, floats * sizeof(float));
  };
  const MixerState& state = mixer.state;
  const size_t latents = mixer.heads * mixer.lh;
  if (mixer.latent) {
    copy(state.maximum, latents);
    copy(state.norm, latents);
    copy(state.sum, latents * mixer.dh_pad);
    if (position >= kArchiveTokens) {
      copy(state.archive_maximum, latents);
      copy(state.archive_norm, latents);
      copy(state.archive_carry, latents);
      copy(state.archive_mean, latents * mixer.dh_pad);
    }
  }
  if (mixer.window && !mixer.growing) {
    copy(state.keys, window_floats(mixer, mixer.heads * mixer.dh * pad_row(mixer.capacity)));
    const size_t used = static_cast<size_t>(std::min<uint64_t>(position, mixer.capacity));
    const size_t element = mixer.half_window ? sizeof(uint16_t) : sizeof(float);
    const size_t head = mixer.capacity * mixer.dh_pad * element;
    const char* old_values = reinterpret_cast<const char*>(from + state.values);
    char* values = reinterpret_cast<char*>(to + state.values);
    for (size_t h = 0; h < mixer.heads; ++h) {
      std::memcpy(values + h * head, old_values + h * head, used * mixer.dh_pad * element);
    }
  }
  if (mixer.front.conv) copy(state.conv, (mixer.front.taps - 1) * width);
  if (mixer.front.rglru) copy(state.hidden, width);
}

}  // namespace

void copy_to_empty_state(const Plan& plan, const float* from, uint64_t position, float* to) {
  for (const BlockPlan& block : plan.blocks) {
    copy_mixer_state(block.mixer, plan.width, from, position, to);
  }
  const HeadPlan& head = plan.head;
  const auto copy = [&](size_t offset) {
    std::memcpy(to + offset, from + offset, plan.width * sizeof(float));
  };
  if (head.pooled && head.pooling != Pooling::kLast) copy(head.pool);
  if (head.pooled && head.pooling == Pooling::kMean) copy(head.carry);
}

LayerStateBytes layer_state_bytes(const MixerPlan& mixer, size_t width) {
  LayerStateBytes bytes;
  const size_t latents = mixer.heads * mixer.lh;
  if (mixer.latent) bytes.latents = 5 * pad_row(latents) + 2 * pad_row(latents * mixer.dh_pad);
  if (mixer.window && !mixer.growing) {
    bytes.window = pad_row(window_floats(mixer, mixer.heads * mixer.dh * pad_row(mixer.capacity))) +
                   pad_row(window_floats(mixer, mixer.heads * mixer.capacity * mixer.dh_pad));
  }
  if (mixer.front.conv) bytes.front += pad_row((mixer.front.taps - 1) * width);
  if (mixer.front.rglru) bytes.front += pad_row(width);
  bytes.latents *= sizeof(float);
  bytes.window *= sizeof(float);
  bytes.front *= sizeof(float);
  return bytes;
}

std::vector<uint8_t> save_state(const Plan& plan, const float* state, const SoftmaxCache* cache,
                                const SessionRecord& record) {
  const StateCounts counts = serialised_counts(plan, record.position, record.memory);
  const uint64_t size = kHeaderBytes + 4 * (record.logits.size() + counts.float_count) +
                        2 * counts.half_count + kChecksumBytes;
  std::vector<uint8_t> bytes(static_cast<size_t>(size));  // the state is in memory, too
  StateWriter writer = {bytes.data()};
  uint8_t*& at = writer.at;
  std::memcpy(at, kMagic, sizeof(kMagic));
  at += sizeof(kMagic);
  put(at, kStateVersion);
  put(at, static_cast<uint32_t>(record.logits.size()));
  put(at, record.fingerprint);
  put(at, record.position);
  put(at, record.memory);
  put(at, counts.float_count);
  put(at, counts.half_count);
  writer(record.logits.data(), record.logits.size());
  // The walk is shared with restoring, which writes; this visitor only reads.
  walk_state(plan, const_cast<float*>(state), const_cast<SoftmaxCache*>(cache), record.position,
             record.memory, writer);
  put(at, xxh3_64(bytes.data(), static_cast<size_t>(at - bytes.data())));
  return bytes;
}

Status restore_state(const Plan& plan, Span<const uint8_t> bytes, float* state, SoftmaxCache* cache,
                     SessionRecord* record) {
  if (bytes.size() < kHeaderBytes + kChecksumBytes) {
    return Status(StatusCode::kCorrupt,
                  "saved session: " + std::to_string(bytes.size()) + " bytes, too few to be one");
  }
  const uint8_t* at = bytes.data();
  if (std::memcmp(at, kMagic, sizeof(kMagic)) != 0) {
    return Status(StatusCode::kCorrupt, "saved session: does not begin with MOKASTAT");
  }
  at += sizeof(kMagic);
  const uint32_t version = get<uint32_t>(at);
  if (version != kStateVersion) {
    return Status(StatusCode::kVersion, "saved session: version " + std::to_string(version) +
                                            ", this library reads version " +
                                            std::to_string(kStateVersion));
  }
  const uint8_t* end = bytes.data() + bytes.size() - kChecksumBytes;
  if (get<uint64_t>(end) != xxh3_64(bytes.data(), bytes.size() - kChecksumBytes)) {
    return Status(StatusCode::kCorrupt,
                  "saved session: the checksum does not match; it is damaged or cut off");
  }
  const uint32_t logits = get<uint32_t>(at);
  const uint64_t fingerprint = get<uint64_t>(at);
  const uint64_t position = get<uint64_t>(at);
  const uint64_t memory = get<uint64_t>(at);
  const uint64_t floats = get<uint64_t>(at);
  const uint64_t halves = get<uint64_t>(at);
  if (fingerprint != record->fingerprint) {
    return Status(StatusCode::kFailedPrecondition,
                  "saved session: it belongs to another model file; sessions continue only with "
                  "the very file "
                  "that they were made with");
  }
  if (record->expected_position && position != *record->expected_position) {
    return Status(StatusCode::kCorrupt, "saved session: it is at position " +
                                            std::to_string(position) + ", expected " +
                                            std::to_string(*record->expected_position));
  }
  // The bound on the positions keeps the products of the count within 64 bits.
  constexpr uint64_t kMaxPosition = uint64_t{1} << 62;
  const bool fits = plan.cache_floats == 0 || position <= bytes.size();
  StateCounts counts;
  if (fits && position <= kMaxPosition && memory <= kMaxPosition) {
    counts = serialised_counts(plan, position, memory);
  }
  if (!fits || position > kMaxPosition || memory > kMaxPosition ||
      (memory != 0 && plan.memory_blocks.empty()) || (logits != 0 && logits != plan.outputs) ||
      (logits == 0) != (position == 0) || floats != counts.float_count ||
      halves != counts.half_count ||
      bytes.size() !=
          kHeaderBytes + 4 * (uint64_t{logits} + floats) + 2 * halves + kChecksumBytes) {
    return Status(StatusCode::kCorrupt, "saved session: its sizes do not fit the model");
  }
  // A dry run first, so that `state` changes only when every value is good.
  FiniteCheck check = {at};
  check(static_cast<const float*>(nullptr), logits);
  walk_counts(plan, position, memory, check);
  if (!check.finite) return Status(StatusCode::kCorrupt, "saved session: a value is not finite");
  std::vector<float> row(logits);  // before anything changes: it may find no memory
  if (plan.cache_floats > 0) MOKA_RETURN_IF_ERROR(cache->reserve(plan, position, 0));
  StateReader reader = {at};
  reader(row.data(), row.size());
  reset_state(plan, state);
  walk_state(plan, state, cache, position, memory, reader);
  record->position = position;
  record->memory = memory;
  record->logits = std::move(row);
  return Status();
}

}  // namespace moka
