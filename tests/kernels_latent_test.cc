// Causal latent attention: step form, chunk form and every mixture of them against the step form in
// double precision, on every table that this CPU runs.
#include <doctest/doctest.h>

#include <functional>

#include "tests/kernel_reference.h"
#include "tests/kernel_testing.h"

namespace moka::test {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();

// Tokens for one head, in blocks that end with the last element that may be read, and the answers.
struct Head {
  Head(size_t tokens, size_t latents, size_t channels, uint64_t seed)
      : n(tokens),
        lh(latents),
        dh(channels),
        dh_pad(pad_row(channels)),
        p_stride(pad_row(latents)),
        k_stride(latents + 3),
        v_stride(dh_pad + 5),
        p((tokens - 1) * p_stride + latents),
        k((tokens - 1) * k_stride + latents),
        v((tokens - 1) * v_stride + dh_pad) {
    Random random(seed);
    for (size_t t = 0; t < n; ++t) {
      double total = 0;
      for (size_t l = 0; l < lh; ++l) total += p[t * p_stride + l] = std::exp(random.normal());
      for (size_t l = 0; l < lh; ++l) {
        p[t * p_stride + l] = static_cast<float>(p[t * p_stride + l] / total);
        key(t, l) = 2.0f * random.normal();
      }
      for (size_t d = 0; d < dh; ++d) v[t * v_stride + d] = random.normal();
    }
  }
  float& key(size_t t, size_t l) { return k[t * k_stride + l]; }

  // Called when the keys are what they shall be.
  void solve() {
    LatentReference reference(lh, dh);
    for (size_t t = 0; t < n; ++t) {
      answers.push_back(reference.step(p.data() + t * p_stride, k.data() + t * k_stride,
                                       v.data() + t * v_stride));
      states.push_back(reference);
    }
  }

  size_t n, lh, dh, dh_pad, p_stride, k_stride, v_stride;
  Floats p, k, v;
  std::vector<std::vector<double>> answers;
  std::vector<LatentReference> states;  // after each token
};

// The state of one head, and what a run left in it.
struct Run {
  explicit Run(const Head& head)
      : m(outputs(head.lh)),
        z(outputs(head.lh)),
        s(outputs(head.lh * head.dh_pad)),
        y(outputs(head.n * y_stride(head))) {
    std::fill(m.begin(), m.end(), kLowest);
    std::fill(y.begin(), y.end(), -5.0f);
  }
  static size_t y_stride(const Head& head) { return head.dh_pad + 2; }

  void feed(const Kernels& kernels, const Head& head, size_t start, size_t count) {
    Floats scratch = outputs(latent_scratch(count, head.lh));
    std::fill(scratch.begin(), scratch.end(), std::numeric_limits<float>::quiet_NaN());
    LatentArgs args;
    args.n = count, args.lh = head.lh, args.dh_pad = head.dh_pad;
    args.p = head.p.data() + start * head.p_stride, args.p_stride = head.p_stride;
    args.k = head.k.data() + start * head.k_stride, args.k_stride = head.k_stride;
    args.v = head.v.data() + start * head.v_stride, args.v_stride = head.v_stride;
    args.m = m.data(), args.z = z.data(), args.s = s.data();
    args.y = y.data() + start * y_stride(head), args.y_stride = y_stride(head);
    args.scratch = scratch.data();
    kernels.latent(args);
    CHECK_INTACT(scratch);
  }

  // Outputs of the first `tokens` tokens and the state after them. Outputs are means of values of
  // order 1 (spec: 2e-5 for a layer; kernels alone do better).
  void check(const Head& head, size_t tokens) const {
    Deviation outcome, state;
    bool padding = true;
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t d = 0; d < y_stride(head); ++d) {
        const float got = y[t * y_stride(head) + d];
        if (d < head.dh) {
          const double want = head.answers[t][d];
          outcome.add(got, want, 4e-6 + 4e-6 * std::fabs(want), t * y_stride(head) + d);
        } else {
          padding = padding && got == (d < head.dh_pad ? 0.0f : -5.0f);
        }
      }
    }
    const LatentReference& want = head.states[tokens - 1];
    for (size_t l = 0; l < head.lh; ++l) {
      CHECK(static_cast<double>(m[l]) == want.top(l));
      state.add(z[l], want.z(l), 4e-6 * want.z(l), l);
      for (size_t d = 0; d < head.dh_pad; ++d) {
        const float got = s[l * head.dh_pad + d];
        if (d < head.dh) {
          state.add(got, want.value(l, d), 4e-6 * (want.z(l) + std::fabs(want.value(l, d))),
                    l * head.dh_pad + d);
        } else {
          padding = padding && got == 0.0f;
        }
      }
    }
    CHECK_DEVIATION(outcome);
    CHECK_DEVIATION(state);
    CHECK(padding);
    CHECK_INTACT(m);
    CHECK_INTACT(z);
    CHECK_INTACT(s);
    CHECK_INTACT(y);
  }

  Floats m, z, s, y;
};

void check_cut(const Kernels& kernels, const Head& head, const std::vector<size_t>& pieces) {
  Run run(head);
  size_t done = 0;
  for (const size_t piece : pieces) {
    run.feed(kernels, head, done, piece);
    done += piece;
  }
  run.check(head, done);
}

std::vector<size_t> equal_pieces(size_t total, size_t piece) {
  std::vector<size_t> pieces;
  for (size_t done = 0; done < total; done += piece)
    pieces.push_back(std::min(piece, total - done));
  return pieces;
}

std::vector<size_t> random_pieces(size_t total, Random* random) {
  std::vector<size_t> pieces;
  for (size_t done = 0; done < total; done += pieces.back()) {
    pieces.push_back(1 + random->below(std::min<size_t>(total - done, 20)));
  }
  return pieces;
}

// Whole, one by one, and cut at random.
void check_all_ways(const Kernels& kernels, const Head& head) {
  check_cut(kernels, head, {head.n});
  check_cut(kernels, head, equal_pieces(head.n, 1));
  Random random(head.n);
  check_cut(kernels, head, random_pieces(head.n, &random));
}

template <class Body>
void for_each_table(Body body) {
  for (const Kernels* table : kernel_tables()) {
    const std::string isa = table->name;
    CAPTURE(isa);
    body(*table);
  }
}

const size_t kWidths[][2] = {{1, 1},   {43, 43}, {64, 64}, {1, 64}, {64, 1},  {7, 5},
                             {16, 16}, {17, 17}, {33, 9},  {5, 80}, {10, 32}, {3, 129}};

// Checks a pattern of keys, key(t, l), on all widths and lengths given.
void check_keys(const std::function<float(size_t, size_t)>& key,
                std::initializer_list<size_t> lengths) {
  for (const auto& width : kWidths) {
    for (const size_t n : lengths) {
      Head head(n, width[0], width[1], n);
      for (size_t t = 0; t < n; ++t) {
        for (size_t l = 0; l < head.lh; ++l) head.key(t, l) = key(t, l);
      }
      head.solve();
      for_each_table([&](const Kernels& kernels) {
        INFO("tokens " << n << ", latents " << head.lh << ", channels " << head.dh);
        check_all_ways(kernels, head);
      });
    }
  }
}

}  // namespace

TEST_CASE("kernel latent: 1 to 70 tokens, whole and in steps") {
  for (const auto& width : kWidths) {
    Head head(70, width[0], width[1], 7 * width[0] + width[1]);
    head.solve();
    for_each_table([&](const Kernels& kernels) {
      for (size_t n = 1; n <= 70; ++n) {
        INFO("tokens " << n << ", latents " << head.lh << ", channels " << head.dh);
        check_cut(kernels, head, {n});
      }
      INFO("steps, latents " << head.lh << ", channels " << head.dh);
      check_cut(kernels, head, equal_pieces(70, 1));
    });
  }
}

TEST_CASE("kernel latent: any cut of the tokens gives the same") {
  for (const auto& width : kWidths) {
    constexpr size_t kTokens = 24;
    Head head(kTokens, width[0], width[1], 11);
    Head longer(200, width[0], width[1], 12);
    head.solve();
    longer.solve();
    for_each_table([&](const Kernels& kernels) {
      for (size_t cut = 1; cut < kTokens; ++cut) {
        INFO("cut at " << cut << " of 24, latents " << head.lh << ", channels " << head.dh);
        check_cut(kernels, head, {cut, kTokens - cut});
      }
      INFO("latents " << head.lh << ", channels " << head.dh);
      for (const size_t piece : {2, 3, 16, 64})
        check_cut(kernels, longer, equal_pieces(200, piece));
      Random random(5);
      for (int i = 0; i < 5; ++i) check_cut(kernels, longer, random_pieces(200, &random));
    });
  }
}

TEST_CASE("kernel latent: the first token's output is its value") {
  Head head(1, 43, 43, 3);
  for_each_table([&](const Kernels& kernels) {
    for (const float key : {0.0f, 80.0f, -80.0f, 300.0f, -300.0f, 1e30f, -1e30f, kLowest}) {
      CAPTURE(key);
      for (size_t l = 0; l < head.lh; ++l) head.key(0, l) = key;
      Run run(head);
      run.feed(kernels, head, 0, 1);
      Deviation deviation;
      for (size_t d = 0; d < head.dh; ++d)
        deviation.add(run.y[d], head.v[d], 1e-6 * std::fabs(head.v[d]), d);
      CHECK_DEVIATION(deviation);
      for (size_t l = 0; l < head.lh; ++l) {
        CHECK(run.m[l] == key);
        CHECK(run.z[l] == 1.0f);
      }
    }
  });
}

// Without the guard Z underflows when a maximum climbs by more than 87, and outputs are Inf or NaN.
TEST_CASE("kernel latent: maxima that climb inside a chunk") {
  const float climbs[] = {10.0f, 59.5f, kJumpLimit, 60.5f, 86.0f, 89.0f, 104.0f, 300.0f, 3000.0f};
  SUBCASE("once, by every latent") {
    for (const float climb : climbs) {
      check_keys([&](size_t t, size_t) { return t < 3 ? 0.25f : climb; }, {2, 5, 33});
    }
  }
  SUBCASE("once, by one latent") {
    for (const float climb : climbs) {
      check_keys([&](size_t t, size_t l) { return t >= 2 && l == 0 ? climb : 0.5f; }, {3, 33});
    }
  }
  SUBCASE("each latent at another token") {
    for (const float climb : climbs) {
      const auto key = [&](size_t t, size_t l) {
        return t >= 1 + l % 31 ? climb : 0.01f * static_cast<float>(t);
      };
      check_keys(key, {33, 40});
    }
  }
  SUBCASE("at every token") {
    for (const float climb : climbs) {
      const auto key = [&](size_t t, size_t l) {
        return climb * static_cast<float>(t) - static_cast<float>(l);
      };
      check_keys(key, {2, 3, 17});
    }
  }
  SUBCASE("at the last token") {
    for (const float climb : climbs) {
      const auto key = [&](size_t t, size_t) {
        return t % 16 == 15 ? climb * static_cast<float>(1 + t) : 0.0f;
      };
      check_keys(key, {16, 32});
    }
  }
}

TEST_CASE("kernel latent: extreme keys") {
  SUBCASE("falling steeply: old tokens stay alone") {
    check_keys([](size_t t, size_t) { return -300.0f * static_cast<float>(t); }, {2, 17, 40});
  }
  SUBCASE("saw of +-80") {
    check_keys([](size_t t, size_t l) { return (t + l) % 2 == 0 ? 80.0f : -80.0f; },
               {2, 3, 17, 40});
  }
  SUBCASE("saw of +-300 with other periods") {
    check_keys([](size_t t, size_t l) { return (t * (l + 1)) % 5 < 2 ? 300.0f : -300.0f; },
               {5, 33});
  }
  SUBCASE("all equal: running means") {
    check_keys([](size_t, size_t) { return -12.5f; }, {1, 2, 64, 70});
  }
  SUBCASE("the lowest float, then ordinary keys") {
    check_keys([](size_t t, size_t) { return t == 0 ? kLowest : static_cast<float>(t % 3); },
               {2, 20});
  }
  SUBCASE("the lowest float in the middle") {
    check_keys([](size_t t, size_t) { return t == 5 ? kLowest : static_cast<float>(t % 3); },
               {6, 20});
  }
}

TEST_CASE("kernel latent: thousands of tokens") {
  Head head(3000, 10, 16, 21);
  head.solve();
  for_each_table([&](const Kernels& kernels) {
    for (const size_t piece : {1, 64, 3000}) {
      CAPTURE(piece);
      check_cut(kernels, head, equal_pieces(head.n, piece));
    }
  });
}

}  // namespace moka::test
