// Whole sequences: blocks one after the other over all rows, because a mixer that sees ahead needs
// every row of the layer below. And the memory, which is read like that or step by step. A part of
// Forward.
#include "runtime/forward.h"

namespace moka {
namespace {

Status cancelled() { return Status(StatusCode::kCancelled, "cancelled"); }

}  // namespace

Sequence part_of(const Sequence& sequence, const Piece& piece, size_t features) {
  Sequence part = sequence;
  part.position = sequence.position + piece.first;
  part.shift = piece.shift;
  part.count = piece.count;
  if (part.tokens != nullptr) part.tokens += piece.first;
  if (part.values != nullptr) part.values += piece.first * features;
  part.row = 0;
  return part;
}

Status Forward::run_whole(const std::vector<BlockPlan>& blocks, const Sequence& sequence,
                          Span<const Piece> pieces, float* x, const PieceDone& done) {
  const size_t width = plan_.width;
  if (convolution_ != nullptr) {
    MOKA_RETURN_IF_ERROR(embed_image(sequence, x));
  } else {
    const ProfileScope scope(profiler_, "embed", -1, sequence.count);
    for (const Piece& piece : pieces) {
      const Sequence part = part_of(sequence, piece, plan_.input.features);
      MOKA_RETURN_IF_ERROR(embed(part, x + piece.first * width));
    }
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockPlan& block = blocks[i];
    block_ = static_cast<int>(i);
    if (block.mixer.reach == Reach::kAll) {
      for (const Piece& piece : pieces) {
        normalise(block.before_mixer, piece.count, x + piece.first * width, z_.data());
        MOKA_RETURN_IF_ERROR(
            gather(block.mixer, part_of(sequence, piece, plan_.input.features), z_.data()));
        if (!done()) return cancelled();
      }
    }
    for (const Piece& piece : pieces) {
      const Sequence part = part_of(sequence, piece, plan_.input.features);
      const Span<const Sequence> one(&part, 1);
      prepare_positions(one);
      MOKA_RETURN_IF_ERROR(run_block(block, one, piece.count, x + piece.first * width));
      if (!done()) return cancelled();
    }
  }
  block_ = -1;
  return Status();
}

Status Forward::read_whole(const Sequence& sequence, Span<const Piece> pieces, float* x,
                           const PieceDone& done) {
  Sequence all = sequence;
  all.whole = sequence.count;
  return run_whole(plan_.blocks, all, pieces, x, done);
}

Status Forward::read_whole_memory(const Sequence& sequence, Span<const Piece> pieces, float* x,
                                  const PieceDone& done) {
  Sequence all = sequence;
  all.whole = sequence.count;
  MOKA_RETURN_IF_ERROR(run_whole(plan_.memory_blocks, all, pieces, x, done));
  for (const Piece& piece : pieces) {
    MOKA_RETURN_IF_ERROR(
        gather_memory(part_of(all, piece, plan_.input.features), x + piece.first * plan_.width));
  }
  return Status();
}

Status Forward::read_memory(Sequence& sequence) {
  sequence.row = 0;
  MOKA_RETURN_IF_ERROR(embed(sequence, x_.data()));
  const Span<const Sequence> one(&sequence, 1);
  prepare_positions(one);
  for (size_t i = 0; i < plan_.memory_blocks.size(); ++i) {
    block_ = static_cast<int>(i);
    MOKA_RETURN_IF_ERROR(run_block(plan_.memory_blocks[i], one, sequence.count, x_.data()));
  }
  block_ = -1;
  return gather_memory(sequence, x_.data());
}

// Keys and values of rows of the memory into the latents of every block that reads it.
Status Forward::gather_memory(const Sequence& sequence, const float* x) {
  for (const BlockPlan& block : plan_.blocks) {
    if (block.mixer.reach != Reach::kMemory) continue;
    normalise(plan_.memory_norm, sequence.count, x, z_.data());
    MOKA_RETURN_IF_ERROR(gather(block.mixer, sequence, z_.data()));
  }
  return Status();
}

}  // namespace moka
