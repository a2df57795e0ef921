// Sliding-window attention: rings of all fills, positions near and far, every cut of the tokens,
// of floats and of halves, against double precision, on every table that this CPU runs.
#include <doctest/doctest.h>

#include <type_traits>

#include "runtime/half.h"
#include "tests/kernel_reference.h"
#include "tests/kernel_testing.h"

namespace moka::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Number `x` as a ring of T keeps it, and back.
template <class T>
T kept(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    return float_to_half(std::isfinite(x) ? std::min(std::max(x, -65504.0f), 65504.0f) : x);
  }
}
float number(float kept) { return kept; }
float number(uint16_t kept) { return half_to_float(kept); }

struct Setup {
  size_t capacity = 4, dh = 16, tokens = 1;
  uint64_t position = 0;  // of the first token; min(position, capacity) tokens are in the ring
  float scale = 0.25f, softcap = 0.0f, spread = 1.0f;
  bool blend = false;  // y += (t + 1) / 8 * attention, for token t of the call

  size_t dh_pad() const { return pad_row(dh); }
  size_t past() const { return static_cast<size_t>(std::min<uint64_t>(position, capacity)); }
};

// One head's tokens (those before `position` first), its answers, and the ring of T before and after.
template <class T>
class Head {
 public:
  explicit Head(const Setup& setup)
      : s_(setup),
        stride_(setup.dh_pad() + 5),
        all_(setup.past() + setup.tokens),
        q_(rows(setup.dh)),
        k_(rows(setup.dh)),
        v_(rows(setup.dh_pad())) {
    Random random(setup.tokens * 31 + setup.capacity);
    WindowReference reference(s_.dh, s_.capacity, s_.scale, s_.softcap);
    for (size_t t = 0; t < all_; ++t) {
      for (size_t d = 0; d < s_.dh; ++d) {
        q_[t * stride_ + d] = s_.spread * random.normal();
        k_[t * stride_ + d] = random.normal();
        v_[t * stride_ + d] = random.normal();
      }
      const std::vector<float> k = rounded(k_, t), v = rounded(v_, t);
      if (t < s_.past()) {
        reference.remember(k.data(), v.data());
      } else {
        answers_.push_back(reference.step(q_.data() + t * stride_, k.data(), v.data()));
      }
    }
  }

  // Reads the tokens in the pieces given and compares everything.
  void check(const Kernels& kernels, const std::vector<size_t>& pieces) const {
    const size_t cp = pad_row(s_.capacity), dp = s_.dh_pad(), y_stride = dp + 3;
    // Slots that no token has filled hold NaN: nothing may leak out of them.
    Ring ring_k(s_.dh * cp, true), ring_v(s_.capacity * dp, true);
    std::fill(ring_k.begin(), ring_k.end(), kept<T>(kNan));
    std::fill(ring_v.begin(), ring_v.end(), kept<T>(kNan));
    for (size_t t = 0; t < s_.past(); ++t) store(t, &ring_k, &ring_v);
    Floats y = outputs(s_.tokens * y_stride);
    std::fill(y.begin(), y.end(), -5.0f);

    size_t done = 0;
    for (const size_t piece : pieces) {
      Floats scratch = outputs(window_scratch(piece, s_.capacity, s_.dh, dp, kHalf));
      std::fill(scratch.begin(), scratch.end(), kNan);
      WindowArgs args;
      args.n = piece, args.dh = s_.dh, args.dh_pad = dp, args.capacity = s_.capacity;
      args.position = s_.position + done;
      const size_t at = (s_.past() + done) * stride_;
      args.q = q_.data() + at, args.q_stride = stride_;
      args.k = k_.data() + at, args.k_stride = stride_;
      args.v = v_.data() + at, args.v_stride = stride_;
      args.half = kHalf;
      args.ring_k = ring_k.data(), args.ring_v = ring_v.data();
      args.scale = s_.scale, args.softcap = s_.softcap;
      args.y = y.data() + done * y_stride, args.y_stride = y_stride;
      args.scratch = scratch.data();
      std::vector<float> shares(piece);
      for (size_t t = 0; t < piece; ++t) shares[t] = share(done + t);
      if (s_.blend) args.blend = shares.data();
      kernels.window(args);
      CHECK_INTACT(scratch);
      done += piece;
    }
    check_outputs(y, y_stride);
    check_ring(ring_k, ring_v);
  }

 private:
  using Ring = Block<T>;
  static constexpr bool kHalf = std::is_same_v<T, uint16_t>;

  static float share(size_t t) { return static_cast<float>(t + 1) / 8.0f; }
  Floats rows(size_t width) const { return Floats((all_ - 1) * stride_ + width); }
  size_t slot(size_t t) const {
    return static_cast<size_t>((s_.position - s_.past() + t) % s_.capacity);
  }
  std::vector<float> rounded(const Floats& rows, size_t t) const {
    std::vector<float> row;
    for (size_t d = 0; d < s_.dh; ++d) row.push_back(number(kept<T>(rows[t * stride_ + d])));
    return row;
  }
  void store(size_t t, Ring* ring_k, Ring* ring_v) const {
    const size_t cp = pad_row(s_.capacity), dp = s_.dh_pad();
    for (size_t d = 0; d < s_.dh; ++d) (*ring_k)[d * cp + slot(t)] = kept<T>(k_[t * stride_ + d]);
    for (size_t d = 0; d < dp; ++d) (*ring_v)[slot(t) * dp + d] = kept<T>(v_[t * stride_ + d]);
  }

  void check_outputs(const Floats& y, size_t y_stride) const {
    Deviation deviation;
    bool padding = true;
    // Logits are rounded relative to their terms; their errors are relative ones of the weights.
    const double logit =
        static_cast<double>(s_.scale) * s_.spread * std::sqrt(static_cast<double>(s_.dh));
    const double tolerance = 4e-6 * (1 + logit);
    for (size_t t = 0; t < s_.tokens; ++t) {
      for (size_t d = 0; d < y_stride; ++d) {
        const float got = y[t * y_stride + d];
        if (d < s_.dh && s_.blend) {
          const double part = static_cast<double>(share(t)) * answers_[t][d];
          deviation.add(got, -5.0 + part, share(t) * tolerance + 8 * kEps * (5 + std::fabs(part)),
                        t * y_stride + d);
        } else if (d < s_.dh) {
          deviation.add(got, answers_[t][d], tolerance, t * y_stride + d);
        } else {
          padding = padding && got == (d < s_.dh_pad() && !s_.blend ? 0.0f : -5.0f);
        }
      }
    }
    CHECK_DEVIATION(deviation);
    CHECK(padding);
    CHECK_INTACT(y);
  }

  // The ring holds the last `capacity` tokens, bit for bit, and what it held where there are none.
  void check_ring(const Ring& ring_k, const Ring& ring_v) const {
    Ring want_k(ring_k.size()), want_v(ring_v.size());
    std::fill(want_k.begin(), want_k.end(), kept<T>(kNan));
    std::fill(want_v.begin(), want_v.end(), kept<T>(kNan));
    for (size_t t = 0; t < all_; ++t) store(t, &want_k, &want_v);
    CHECK(same_bits(ring_k.data(), want_k.data(), ring_k.size()));
    CHECK(same_bits(ring_v.data(), want_v.data(), ring_v.size()));
    CHECK_INTACT(ring_k);
    CHECK_INTACT(ring_v);
  }

  Setup s_;
  size_t stride_, all_;
  Floats q_, k_, v_;
  std::vector<std::vector<double>> answers_;
};

template <class T>
void check_kind(const Setup& setup, bool all_cuts) {
  const Head<T> head(setup);
  for (const Kernels* table : kernel_tables()) {
    const std::string isa = table->name;
    INFO(isa << (sizeof(T) == 2 ? ", halves" : ", floats") << ": capacity " << setup.capacity
             << ", position " << setup.position << ", tokens " << setup.tokens << ", channels "
             << setup.dh << ", scale " << setup.scale << ", cap " << setup.softcap);
    head.check(*table, {setup.tokens});
    head.check(*table, std::vector<size_t>(setup.tokens, 1));
    for (size_t cut = 1; all_cuts && cut < setup.tokens; ++cut) {
      CAPTURE(cut);
      head.check(*table, {cut, setup.tokens - cut});
    }
    if (setup.tokens < 8) continue;
    for (const size_t piece : {3, 7, 16}) {
      std::vector<size_t> pieces;
      for (size_t done = 0; done < setup.tokens; done += pieces.back()) {
        pieces.push_back(std::min(piece, setup.tokens - done));
      }
      head.check(*table, pieces);
    }
  }
}

void check(const Setup& setup, bool all_cuts = false) {
  check_kind<float>(setup, all_cuts);
  check_kind<uint16_t>(setup, all_cuts);
}

}  // namespace

TEST_CASE("kernel window: before, at and after the ring is full") {
  for (const size_t capacity : {1, 2, 4, 5, 16, 17, 128, 129}) {
    for (const uint64_t position :
         {uint64_t{0}, uint64_t{1}, uint64_t{capacity - 1}, uint64_t{capacity},
          uint64_t{capacity + 1}, uint64_t{3 * capacity + 2}}) {
      for (const size_t tokens : {size_t{1}, size_t{2}, size_t{3}, capacity, capacity + 1}) {
        Setup setup;
        setup.capacity = capacity, setup.position = position, setup.tokens = tokens;
        check(setup);
      }
    }
  }
}

TEST_CASE("kernel window: chunks longer than the window") {
  for (const size_t capacity : {1, 2, 5, 17, 129}) {
    for (const uint64_t position : {uint64_t{0}, uint64_t{2}, uint64_t{capacity + 3}}) {
      Setup setup;
      setup.capacity = capacity, setup.position = position, setup.tokens = 2 * capacity + 3;
      check(setup);
      setup.tokens = 4 * capacity + 1;
      check(setup);
    }
  }
}

TEST_CASE("kernel window: every cut of the tokens") {
  for (const size_t capacity : {1, 4, 5, 16}) {
    for (const uint64_t position : {0, 3, 40}) {
      Setup setup;
      setup.capacity = capacity, setup.position = position, setup.tokens = 20;
      check(setup, true);
    }
  }
}

TEST_CASE("kernel window: head widths") {
  for (const size_t dh : {1, 2, 5, 15, 16, 17, 43, 64, 80}) {
    for (const size_t tokens : {1, 2, 13, 40}) {
      Setup setup;
      setup.capacity = 9, setup.position = 6, setup.tokens = tokens, setup.dh = dh;
      setup.scale = 1.0f / std::sqrt(static_cast<float>(dh));
      check(setup);
    }
  }
}

TEST_CASE("kernel window: blended into what is there") {
  for (const size_t tokens : {1, 2, 16, 17, 50}) {
    for (const size_t capacity : {1, 9, 33}) {
      Setup setup;
      setup.blend = true;
      setup.capacity = capacity, setup.position = 20, setup.tokens = tokens, setup.dh = 21;
      check(setup);
    }
  }
}

// Blocks of 16 queries and 16 slots meet the ring's end and each other at every offset.
TEST_CASE("kernel window: long chunks at every offset of the ring") {
  for (const size_t capacity : {32, 40}) {
    for (uint64_t position = 0; position < 2 * capacity; position += 5) {
      Setup setup;
      setup.capacity = capacity, setup.position = position, setup.tokens = 70;
      check(setup);
    }
  }
}

TEST_CASE("kernel window: scores that are huge, capped or switched off") {
  for (const float spread : {1.0f, 30.0f, 300.0f}) {
    for (const float softcap : {0.0f, 1.0f, 30.0f}) {
      for (const float scale : {0.0f, 0.125f, 1.0f}) {
        Setup setup;
        setup.capacity = 12, setup.position = 5, setup.tokens = 30;
        setup.spread = spread, setup.softcap = softcap, setup.scale = scale;
        check(setup);
      }
    }
  }
}

// What a half cannot hold, in a step and in a chunk: large numbers become the largest half, small
// ones subnormal halves or 0, ties go to the even one; infinity and NaN stay what they are.
TEST_CASE("kernel window: numbers at the edges of a half") {
  const std::vector<float> inputs = {65504.0f,    65519.9f, 65520.0f,        -65536.0f,
                                     1e30f,       -3e38f,   kInfinity,       -kInfinity,
                                     kNan,        0x1p-24f, 0x1p-25f,        0x1.8p-24f,
                                     -0x1.8p-25f, 0x1p-14f, 1.0f + 0x1p-11f, 1.0f + 0x1.8p-10f,
                                     2049.0f,     -2051.0f, 0.333333343f};
  const std::vector<uint16_t> halves = {0x7bff, 0x7bff, 0x7bff, 0xfbff, 0x7bff, 0xfbff, 0x7c00,
                                        0xfc00, 0x7e00, 0x0001, 0x0000, 0x0002, 0x8001, 0x0400,
                                        0x3c00, 0x3c02, 0x6800, 0xe802, 0x3555};
  const size_t dh = inputs.size(), dp = pad_row(dh), capacity = 40, cp = pad_row(capacity);
  for (const Kernels* table : kernel_tables()) {
    CAPTURE(std::string(table->name));
    for (const size_t n : {1, 2, 17}) {
      CAPTURE(n);
      Floats q(n * dp), rows(n * dp), y = outputs(n * dp);
      for (size_t i = 0; i < n * dp; ++i) rows[i] = i % dp < dh ? inputs[i % dp] : 0.0f;
      Block<uint16_t> ring_k(dh * cp, true), ring_v(capacity * dp, true);
      Floats scratch = outputs(window_scratch(n, capacity, dh, dp, true));
      WindowArgs args;
      args.n = n, args.dh = dh, args.dh_pad = dp, args.capacity = capacity;
      args.q = q.data(), args.k = rows.data(), args.v = rows.data();
      args.q_stride = args.k_stride = args.v_stride = args.y_stride = dp;
      args.half = true;
      args.ring_k = ring_k.data(), args.ring_v = ring_v.data();
      args.y = y.data(), args.scratch = scratch.data();
      table->window(args);
      for (size_t t = 0; t < n; ++t) {
        for (size_t d = 0; d < dh; ++d) {
          CAPTURE(inputs[d]);
          for (const uint16_t got : {ring_k[d * cp + t], ring_v[t * dp + d]}) {
            const bool nan = std::isnan(inputs[d]);
            CHECK((nan ? std::isnan(half_to_float(got)) : got == halves[d]));
          }
        }
      }
      CHECK_INTACT(ring_k);
      CHECK_INTACT(ring_v);
    }
  }
}

TEST_CASE("kernel window: positions of long sessions") {
  for (const uint64_t position : {uint64_t{1000003}, uint64_t{1} << 31, (uint64_t{1} << 32) - 3,
                                  uint64_t{1} << 40, (uint64_t{1} << 53) + 1}) {
    Setup setup;
    setup.capacity = 7, setup.position = position, setup.tokens = 11;
    check(setup);
  }
}

}  // namespace moka::test
