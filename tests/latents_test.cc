// Latents in two halves (gather, read) and in two levels (recent, archive), on every table.
#include "runtime/latents.h"

#include <doctest/doctest.h>

#include "tests/kernel_reference.h"
#include "tests/kernel_testing.h"

namespace moka::test {
namespace {

// One head as the runtime lays it out, and random tokens for it.
struct Latents {
  Latents(size_t lh, size_t dh, size_t tokens, float spread, uint64_t seed) : n(tokens) {
    mixer.latent = true;
    mixer.heads = 1;
    mixer.lh = lh;
    mixer.dh = dh;
    mixer.dh_pad = pad_row(dh);
    size_t at = 0;
    for (size_t* offset : {&mixer.state.maximum, &mixer.state.norm, &mixer.state.archive_maximum,
                           &mixer.state.archive_carry, &mixer.state.archive_norm}) {
      *offset = at;
      at += pad_row(lh);
    }
    for (size_t* offset : {&mixer.state.sum, &mixer.state.archive_mean}) {
      *offset = at;
      at += lh * mixer.dh_pad;
    }
    state.resize(at);
    reset();
    p = normals(n * pad_row(lh), seed);
    k = normals(n * lh, seed + 1, spread);
    v = Floats(n * mixer.dh_pad);
    Random random(seed + 2);
    for (size_t t = 0; t < n; ++t) {
      double total = 0;
      for (size_t l = 0; l < lh; ++l) total += p[t * pad_row(lh) + l] = std::exp(random.normal());
      for (size_t l = 0; l < lh; ++l)
        p[t * pad_row(lh) + l] = static_cast<float>(p[t * pad_row(lh) + l] / total);
      for (size_t d = 0; d < dh; ++d) v[t * mixer.dh_pad + d] = random.normal();
    }
  }

  void reset() {
    std::fill(state.begin(), state.end(), 0.0f);
    for (const size_t offset : {mixer.state.maximum, mixer.state.archive_maximum}) {
      std::fill_n(state.begin() + static_cast<std::ptrdiff_t>(offset), mixer.lh,
                  std::numeric_limits<float>::lowest());
    }
  }

  // `position` decides whether the archive counts.
  LatentArgs args(size_t start, size_t count, uint64_t position) {
    LatentArgs a;
    set_latents(mixer, state.data(), position, 0, &a);
    a.n = count;
    a.p = p.data() + start * pad_row(mixer.lh), a.p_stride = pad_row(mixer.lh);
    a.k = k.data() + start * mixer.lh, a.k_stride = mixer.lh;
    a.v = v.data() + start * mixer.dh_pad, a.v_stride = mixer.dh_pad;
    y = outputs(count * mixer.dh_pad);
    scratch = outputs(latent_scratch(count, mixer.lh));
    std::fill(scratch.begin(), scratch.end(), std::numeric_limits<float>::quiet_NaN());
    a.y = y.data(), a.y_stride = mixer.dh_pad;
    a.scratch = scratch.data();
    return a;
  }

  std::vector<double> reference_step(LatentReference* reference, size_t t) const {
    return reference->step(p.data() + t * pad_row(mixer.lh), k.data() + t * mixer.lh,
                           v.data() + t * mixer.dh_pad);
  }

  void check_row(size_t row, const std::vector<double>& want) const {
    Deviation deviation;
    for (size_t d = 0; d < mixer.dh; ++d)
      deviation.add(y[row * mixer.dh_pad + d], want[d], 4e-6 + 4e-6 * std::fabs(want[d]), d);
    CHECK_DEVIATION(deviation);
    CHECK_INTACT(y);
    CHECK_INTACT(scratch);
  }

  size_t n;
  MixerPlan mixer;
  std::vector<float> state;
  Floats p{0}, k{0}, v{0}, y{0}, scratch{0};
};

const size_t kWidths[][2] = {{1, 1}, {43, 43}, {64, 64}, {7, 5}, {17, 33}, {5, 80}};

}  // namespace

TEST_CASE("kernel latent: tokens in the archive count like recent ones") {
  constexpr size_t kOld = 20;
  constexpr uint64_t kArchived = kArchiveTokens;  // any position with an archive
  for (const auto& width : kWidths) {
    for (const float spread : {1.0f, 30.0f}) {
      Latents latents(width[0], width[1], 60, spread, width[0]);
      for (const Kernels* kernels : kernel_tables()) {
        for (const size_t piece : {1, 7, 40}) {
          const std::string isa = kernels->name;
          INFO(isa << ", latents " << width[0] << ", channels " << width[1] << ", pieces of "
                   << piece << ", keys of deviation " << spread);
          latents.reset();
          LatentReference reference(width[0], width[1]);
          kernels->latent(latents.args(0, kOld, 0));
          for (size_t t = 0; t < kOld; ++t) latents.reference_step(&reference, t);
          archive_latents(latents.mixer, latents.state.data(), kArchiveTokens - kOld,
                          kArchiveTokens);
          for (size_t l = 0; l < width[0]; ++l)
            CHECK(latents.state[latents.mixer.state.norm + l] == 0.0f);
          for (size_t at = kOld; at < latents.n; at += piece) {
            const size_t count = std::min(piece, latents.n - at);
            kernels->latent(latents.args(at, count, kArchived));
            for (size_t t = 0; t < count; ++t)
              latents.check_row(t, latents.reference_step(&reference, at + t));
          }
        }
      }
    }
  }
}

TEST_CASE("kernel latent: gathering and reading are the halves of the last step") {
  for (const auto& width : kWidths) {
    Latents latents(width[0], width[1], 50, 2.0f, width[1]);
    LatentReference reference(width[0], width[1]);
    std::vector<double> last;
    for (size_t t = 0; t < latents.n; ++t) last = latents.reference_step(&reference, t);
    for (const Kernels* kernels : kernel_tables()) {
      for (const bool archived : {false, true}) {
        const std::string isa = kernels->name;
        INFO(isa << ", latents " << width[0] << ", channels " << width[1] << ", archive "
                 << archived);
        latents.reset();
        for (size_t at = 0; at < latents.n; at += 17) {
          kernels->latent_gather(latents.args(at, std::min<size_t>(17, latents.n - at), 0));
          CHECK_INTACT(latents.scratch);
          if (archived && at == 17) {
            archive_latents(latents.mixer, latents.state.data(), 0, kArchiveTokens);
          }
        }
        // Every row reads the same; the last one's mixture is what the reference used.
        const uint64_t position = archived ? kArchiveTokens : 0;
        kernels->latent_read(latents.args(latents.n - 3, 3, position));
        latents.check_row(2, last);
      }
    }
  }
}

TEST_CASE("kernel latent: latents that have seen nothing read as zero") {
  Latents latents(7, 20, 4, 1.0f, 3);
  for (const Kernels* kernels : kernel_tables()) {
    for (const uint64_t position : {uint64_t{0}, kArchiveTokens}) {
      latents.reset();
      kernels->latent_read(latents.args(0, 4, position));
      for (size_t i = 0; i < 4 * latents.mixer.dh_pad; ++i) CHECK(latents.y[i] == 0.0f);
    }
  }
}

// 2^24 tokens of one value, then half as many of another: a float32 sum would stop at 2^24, so the
// second half would not count. The keys of the other latent decay, so it forgets the first half.
TEST_CASE("latents: sums stay right beyond 2^24 tokens") {
  constexpr size_t kPiece = 64;
  constexpr uint64_t kFirst = uint64_t{1} << 24, kTotal = kFirst + kFirst / 2;
  const float values[] = {0.1f, 0.7f};
  Latents latents(2, 3, kPiece, 0.0f, 1);
  const Kernels& kernels = *kernel_tables().front();
  for (size_t t = 0; t < kPiece; ++t) {
    latents.k[t * 2] = 1.5f;
    for (size_t l = 0; l < 2; ++l) latents.p[t * kRowPad + l] = l == 0 ? 1.0f : 0.0f;
  }
  for (uint64_t position = 0; position < kTotal; position += kPiece) {
    const bool second = position >= kFirst;
    if (position == 0 || position == kFirst) {
      for (size_t t = 0; t < kPiece; ++t) {
        latents.k[t * 2 + 1] = second ? 20.0f : -20.0f;
        for (size_t d = 0; d < 3; ++d)
          latents.v[t * kRowPad + d] = values[second] * static_cast<float>(d + 1);
      }
    }
    kernels.latent(latents.args(0, kPiece, position));
    archive_latents(latents.mixer, latents.state.data(), position, position + kPiece);
  }
  const double mean = (2.0 * double{values[0]} + double{values[1]}) / 3.0;
  for (size_t d = 0; d < 3; ++d) {
    INFO("channel " << d);
    const double want = mean * static_cast<double>(d + 1);
    const double got = double{latents.y[(kPiece - 1) * kRowPad + d]};
    CHECK(std::fabs(got - want) <= 2e-5 * want);
  }
  for (size_t t = 0; t < kPiece; ++t) std::swap(latents.p[t * kRowPad], latents.p[t * kRowPad + 1]);
  kernels.latent_read(latents.args(0, 1, kTotal));
  for (size_t d = 0; d < 3; ++d) {
    const double want = double{values[1]} * static_cast<double>(d + 1);
    CHECK(std::fabs(double{latents.y[d]} - want) <= 2e-5 * want);
  }
}

}  // namespace moka::test
