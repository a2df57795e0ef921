// Steps that may be taken back: what follows a token is guessed, read along with it in one pass over
// the weights, and kept as far as it came true. A part of Forward.
//
// Only mixers and fronts change the state, and all that they read is their layer's input and its fused
// projection. So these rows are kept, as they are before the mixer turns them, and to go back is to
// take the state before the pass and to mix the rows that came true once more, without any product.
#include <cstring>

#include "runtime/forward.h"

namespace moka {
namespace {

bool has_front(const MixerPlan& mixer) { return mixer.from_front.count > 0; }

// Softmax attention alone keeps its tokens in the cache, where those that came true stay.
bool mixes_again(const MixerPlan& mixer) {
  return mixer.reach == Reach::kPast && (mixer.latent || !mixer.growing);
}

}  // namespace

Sequence step_of(const Sequence& sequence, size_t step) {
  Sequence one = sequence;
  one.position += step;
  one.row += step;
  one.count = 1;
  return one;
}

size_t Forward::kept_floats() const {
  size_t floats = 0;
  for (const BlockPlan& block : plan_.blocks) {
    if (has_front(block.mixer)) floats += plan_.width;
    if (mixes_again(block.mixer)) floats += block.mixer.row;
  }
  return floats;
}

void Forward::keep_rows(const MixerPlan& mixer, size_t rows, const float* x) {
  const auto keep = [this, rows](const float* from, size_t width) {
    std::memcpy(keep_, from, rows * width * sizeof(float));
    keep_ += rows * width;
  };
  if (has_front(mixer)) keep(x, plan_.width);
  if (mixes_again(mixer)) keep(wide_.data(), mixer.row);
}

Status Forward::read_keeping(Sequence& sequence, float* kept) {
  const struct Keeping {
    float** place;
    ~Keeping() { *place = nullptr; }
  } keeping = {&keep_};
  keep_ = kept;
  return read(Span<Sequence>(&sequence, 1));
}

void Forward::replay(Sequence sequence, size_t steps, const float* kept) {
  const size_t rows = sequence.count;
  sequence.count = steps;
  sequence.row = 0;
  const Span<const Sequence> one(&sequence, 1);
  prepare_positions(one);
  for (size_t i = 0; i < plan_.blocks.size(); ++i) {
    const MixerPlan& mixer = plan_.blocks[i].mixer;
    block_ = static_cast<int>(i);
    const ProfileScope scope(profiler_, "replay", block_, steps);
    if (has_front(mixer)) {
      run_fronts(mixer, one, kept);
      kept += rows * plan_.width;
    }
    if (mixes_again(mixer)) {
      std::memcpy(wide_.data(), kept, steps * mixer.row * sizeof(float));
      kept += rows * mixer.row;
      mix_heads(mixer, one);
    }
  }
  block_ = -1;
}

}  // namespace moka
