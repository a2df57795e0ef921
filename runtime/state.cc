#include "runtime/state.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/checksum.h"
#include "runtime/kernels/kernels.h"

namespace moka {
namespace {

constexpr char kMagic[8] = {'M', 'O', 'K', 'A', 'S', 'T', 'A', 'T'};
constexpr uint32_t kStateVersion = 1;
constexpr size_t kHeaderBytes =
    8 + 4 + 4 + 8 + 8 + 8;  // magic, version, logits, model, position, floats
constexpr size_t kChecksumBytes = 8;

// Calls visit(offset, count) for each contiguous stretch of meaningful floats, in the fixed order of
// the serialised form. The window's tokens go from the oldest to the newest.
template <class Visit>
void walk_state(const Plan& plan, uint64_t position, const Visit& visit) {
  for (const BlockPlan& block : plan.blocks) {
    const MixerPlan& mixer = block.mixer;
    const size_t latents = mixer.heads * mixer.lh;
    if (mixer.latent) {
      visit(mixer.state.maximum, latents);
      visit(mixer.state.norm, latents);
      for (size_t l = 0; l < latents; ++l) visit(mixer.state.sum + l * mixer.dh_pad, mixer.dh);
    }
    if (mixer.window) {
      const size_t fill = static_cast<size_t>(std::min<uint64_t>(position, mixer.capacity));
      const size_t cp = pad_row(mixer.capacity);
      for (uint64_t i = position - fill; i < position; ++i) {
        const size_t slot = static_cast<size_t>(i % mixer.capacity);
        for (size_t h = 0; h < mixer.heads; ++h) {
          for (size_t d = 0; d < mixer.dh; ++d) {
            visit(mixer.state.keys + (h * mixer.dh + d) * cp + slot, size_t{1});
          }
          visit(mixer.state.values + (h * mixer.capacity + slot) * mixer.dh_pad, mixer.dh);
        }
      }
    }
    if (mixer.front.conv) visit(mixer.state.conv, (mixer.front.taps - 1) * plan.width);
    if (mixer.front.rglru) visit(mixer.state.hidden, plan.width);
  }
}

uint64_t serialised_floats(const Plan& plan, uint64_t position) {
  uint64_t floats = 0;
  walk_state(plan, position, [&floats](size_t, size_t count) { floats += count; });
  return floats;
}

template <class T>
void put(uint8_t*& at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) *at++ = static_cast<uint8_t>(value >> (8 * i));
}

template <class T>
T get(const uint8_t*& at) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>(value | (static_cast<T>(*at++) << (8 * i)));
  return value;
}

void put_floats(uint8_t*& at, const float* values, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof(bits));
    put(at, bits);
  }
}

// False when a value is not finite: no session that Moka wrote holds one.
bool get_floats(const uint8_t*& at, float* values, size_t count) {
  bool finite = true;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = get<uint32_t>(at);
    std::memcpy(values + i, &bits, sizeof(bits));
    finite = finite && std::isfinite(values[i]);
  }
  return finite;
}

}  // namespace

void reset_state(const Plan& plan, float* state) {
  std::fill(state, state + plan.state_floats, 0.0f);
  for (const BlockPlan& block : plan.blocks) {
    if (!block.mixer.latent) continue;
    float* maximum = state + block.mixer.state.maximum;
    std::fill(maximum, maximum + block.mixer.heads * block.mixer.lh,
              std::numeric_limits<float>::lowest());
  }
}

LayerStateBytes layer_state_bytes(const MixerPlan& mixer, size_t width) {
  LayerStateBytes bytes;
  const size_t latents = mixer.heads * mixer.lh;
  if (mixer.latent) bytes.latents = 2 * pad_row(latents) + pad_row(latents * mixer.dh_pad);
  if (mixer.window) {
    bytes.window = pad_row(mixer.heads * mixer.dh * pad_row(mixer.capacity)) +
                   pad_row(mixer.heads * mixer.capacity * mixer.dh_pad);
  }
  if (mixer.front.conv) bytes.front += pad_row((mixer.front.taps - 1) * width);
  if (mixer.front.rglru) bytes.front += pad_row(width);
  bytes.latents *= sizeof(float);
  bytes.window *= sizeof(float);
  bytes.front *= sizeof(float);
  return bytes;
}

std::vector<uint8_t> save_state(const Plan& plan, const float* state, const SessionRecord& record) {
  const uint64_t floats = serialised_floats(plan, record.position);
  std::vector<uint8_t> bytes(kHeaderBytes + 4 * (record.logits.size() + floats) + kChecksumBytes);
  uint8_t* at = bytes.data();
  std::memcpy(at, kMagic, sizeof(kMagic));
  at += sizeof(kMagic);
  put(at, kStateVersion);
  put(at, static_cast<uint32_t>(record.logits.size()));
  put(at, record.fingerprint);
  put(at, record.position);
  put(at, floats);
  put_floats(at, record.logits.data(), record.logits.size());
  walk_state(plan, record.position,
             [&at, state](size_t offset, size_t count) { put_floats(at, state + offset, count); });
  put(at, xxh3_64(bytes.data(), static_cast<size_t>(at - bytes.data())));
  return bytes;
}

Status restore_state(const Plan& plan, Span<const uint8_t> bytes, float* state,
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
  const uint64_t floats = get<uint64_t>(at);
  if (fingerprint != record->fingerprint) {
    return Status(StatusCode::kFailedPrecondition,
                  "saved session: it belongs to another model file; sessions continue only with "
                  "the very file "
                  "that they were made with");
  }
  if ((logits != 0 && logits != plan.outputs) || (logits == 0) != (position == 0) ||
      floats != serialised_floats(plan, position) ||
      bytes.size() != kHeaderBytes + 4 * (uint64_t{logits} + floats) + kChecksumBytes) {
    return Status(StatusCode::kCorrupt, "saved session: its sizes do not fit the model");
  }
  std::vector<float> row(logits);
  bool finite = get_floats(at, row.data(), row.size());
  // A dry run first, so that `state` changes only when every value is good.
  const uint8_t* values = at;
  for (uint64_t i = 0; i < floats; ++i) {
    float value;
    finite = get_floats(values, &value, 1) && finite;
  }
  if (!finite) return Status(StatusCode::kCorrupt, "saved session: a value is not finite");
  reset_state(plan, state);
  walk_state(plan, position,
             [&at, state](size_t offset, size_t count) { get_floats(at, state + offset, count); });
  record->position = position;
  record->logits = std::move(row);
  return Status();
}

}  // namespace moka
