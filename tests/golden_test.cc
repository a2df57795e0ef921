// Runs every parity case on every kernel table that this CPU runs, cut into chunks in many ways.
// Cases are found at start and registered by name: "golden: NAME".
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <limits>

#include "runtime/forward.h"
#include "runtime/front.h"
#include "runtime/kernels/kernels.h"
#include "runtime/rotation.h"
#include "runtime/state.h"
#include "tests/golden_case.h"
#include "tests/golden_check.h"

namespace moka::golden {
namespace {

std::vector<const Kernels*> tables_here() {
  std::vector<const Kernels*> tables;
  for (const Kernels* table : compiled_kernels()) {
    if ((table->needs & ~cpu_features()) == 0) tables.push_back(table);
  }
  return tables;
}

std::vector<int> thread_counts() {
#if defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)
  return {1};
#else
  return {1, 2};
#endif
}

// The ways to cut `total` tokens: whole; chunks of 1, 3, 8, 16 and the case's own; a prefix, then
// single steps. A negative entry means: save and restore the state before this piece.
std::vector<std::vector<int>> cuts(const Case& c, size_t total) {
  const int n = static_cast<int>(total);
  std::vector<std::vector<int>> ways = {{n}};
  std::vector<int> sizes = {1, 3, 8, 16};
  if (c.config.contains("chunk")) sizes.push_back(c.config.at("chunk"));
  for (const int size : sizes) {
    std::vector<int> way;
    for (int done = 0; done < n; done += size) way.push_back(std::min(size, n - done));
    ways.push_back(way);
  }
  std::vector<int> prefill = {c.config.value("split", (n + 1) / 2)};
  for (int done = prefill[0]; done < n; ++done) prefill.push_back(done == prefill[0] ? -1 : 1);
  ways.push_back(prefill);
  return ways;
}

// ---- latte_core: one kernel ---------------------------------------------------------------------

// Runs of real tokens in [start, start + count); everything is real without a mask.
std::vector<std::pair<size_t, size_t>> real_runs(const Case& c, size_t offset, size_t start,
                                                 size_t count) {
  std::vector<std::pair<size_t, size_t>> runs;
  const auto mask = c.inputs.find("mask");
  for (size_t i = start; i < start + count; ++i) {
    if (mask != c.inputs.end() && mask->second.data[offset + i] == 0.0) continue;
    if (runs.empty() || runs.back().first + runs.back().second != i) runs.push_back({i, 0});
    ++runs.back().second;
  }
  return runs;
}

void run_core(const Case& c, const Kernels& kernels, const std::vector<int>& way) {
  const Array& q = c.inputs.at("q");
  const size_t total = q.shape[0], heads = q.shape[1], lh = q.shape[2];
  const size_t dh = c.inputs.at("v").shape[2], dp = pad_row(dh);
  const std::vector<float> queries = input(c, "q"), keys = input(c, "k"), values = input(c, "v");
  std::vector<float> p(total * lh), v(total * dp), y(total * dp),
      scratch(latent_scratch(total, lh));
  std::vector<float> out(total * heads * dh);
  for (size_t h = 0; h < heads; ++h) {
    for (size_t t = 0; t < total; ++t) {
      kernels.mixture(queries.data() + (t * heads + h) * lh, nullptr, 1.0f, lh, p.data() + t * lh,
                      nullptr);
      std::copy_n(values.data() + (t * heads + h) * dh, dh, v.data() + t * dp);
    }
    std::vector<float> m(lh, std::numeric_limits<float>::lowest()), z(lh), s(lh * dp);
    size_t start = 0;
    for (const int piece : way) {
      const size_t n = static_cast<size_t>(std::abs(piece));
      const auto args = [&](size_t first, size_t count) {
        LatentArgs a;
        a.n = count, a.lh = lh, a.dh_pad = dp;
        a.p = p.data() + first * lh, a.p_stride = lh;
        a.k = keys.data() + (first * heads + h) * lh, a.k_stride = heads * lh;
        a.v = v.data() + first * dp, a.v_stride = dp;
        a.m = m.data(), a.z = z.data(), a.s = s.data();
        a.y = y.data() + first * dp, a.y_stride = dp;
        a.scratch = scratch.data();
        return a;
      };
      if (c.causal()) {
        kernels.latent(args(start, n));
      } else {
        for (const auto& [first, count] : real_runs(c, 0, start, n)) {
          kernels.latent_gather(args(first, count));
        }
        if (start + n == total) kernels.latent_read(args(0, total));
      }
      start += n;
      if (start == static_cast<size_t>(c.config.value("split", 0))) {
        CHECK_CLOSE(c, "mid_m", m.data(), lh, h * lh);
        CHECK_CLOSE(c, "mid_Z", z.data(), lh, h * lh);
      }
    }
    for (size_t t = 0; t < total; ++t) {
      std::copy_n(y.data() + t * dp, dh, out.data() + (t * heads + h) * dh);
    }
    if (!c.causal()) continue;
    CHECK_CLOSE(c, "m", m.data(), lh, h * lh);
    CHECK_CLOSE(c, "Z", z.data(), lh, h * lh);
    for (size_t l = 0; l < lh; ++l) {
      CHECK_CLOSE(c, "S", s.data() + l * dp, dh, (h * lh + l) * dh);
      const double lse = static_cast<double>(m[l]) + std::log(static_cast<double>(z[l]));
      CHECK_CLOSE(c, "lse", &lse, 1, h * lh + l);
    }
  }
  CHECK_CLOSE(c, "y", out.data(), out.size(), 0);
}

// ---- mixers and blocks: a part of Forward -------------------------------------------------------

struct Part {
  BuiltSpec built;
  std::unique_ptr<PackedWeights> weights;
  Plan plan;
  std::unique_ptr<Forward> forward;
};

std::unique_ptr<Part> make_part(const Case& c, const Kernels& kernels, int threads, size_t rows) {
  auto part = std::make_unique<Part>();
  part->built = build_spec(c);
  const Status checked = check_spec(part->built.spec, c.name);
  REQUIRE_MESSAGE(checked.ok(), checked.message());
  const Status supported = check_supported(part->built.spec, c.name);
  REQUIRE_MESSAGE(supported.ok(), supported.message());
  auto weights = PackedWeights::create();
  REQUIRE(weights.ok());
  part->weights = std::move(weights).value();
  part->plan = make_plan(part->built.spec, *part->weights);
  auto forward = Forward::create(part->plan, kernels, *part->weights, threads, rows);
  REQUIRE(forward.ok());
  part->forward = std::move(forward).value();
  return part;
}

// Saves, forgets and restores a state, as a session would.
void round_trip(const Plan& plan, uint64_t position, std::vector<float>* state,
                SoftmaxCache* cache) {
  SessionRecord record;
  record.fingerprint = 7;
  record.position = position;
  record.logits.assign(plan.outputs, 0.5f);
  const std::vector<uint8_t> bytes = save_state(plan, state->data(), cache, record);
  std::fill(state->begin(), state->end(), -3.0f);
  SessionRecord back;
  back.fingerprint = 7;
  const Status status = restore_state(plan, bytes, state->data(), cache, &back);
  REQUIRE_MESSAGE(status.ok(), status.message());
  CHECK(back.position == position);
}

void run_part(const Case& c, const Kernels& kernels, int threads, const std::vector<int>& way) {
  const Array& x = c.inputs.at("x");
  const size_t batch = x.shape[0], total = x.shape[1], width = x.shape[2];
  const std::vector<float> values = input(c, "x");
  const auto part = make_part(c, kernels, threads, total);
  const BlockPlan& block = part->plan.blocks[0];
  std::vector<float> y(batch * total * width);
  for (size_t b = 0; b < batch; ++b) {
    std::vector<float> state(part->plan.state_floats);
    reset_state(part->plan, state.data());
    SoftmaxCache cache;
    REQUIRE(cache.reserve(part->plan, total, 0).ok());
    REQUIRE(part->forward->reserve_cache(cache.capacity()).ok());
    size_t start = 0;
    for (const int piece : way) {
      const size_t n = static_cast<size_t>(std::abs(piece));
      if (piece < 0) round_trip(part->plan, start, &state, &cache);
      Sequence sequence;
      sequence.state = state.data();
      sequence.cache = &cache;
      sequence.position = start;
      sequence.shift = c.config.value("pos0", 0u);
      sequence.count = n;
      const Span<const Sequence> one(&sequence, 1);
      part->forward->prepare_positions(one);
      // Copied with a tail: vector code and XNNPACK may read past the last element.
      AlignedBuffer<float> rows, out;
      REQUIRE((rows.allocate(n * width) && out.allocate(n * width)));
      std::copy_n(values.data() + (b * total + start) * width, n * width, rows.data());
      Status status;
      if (c.kind == "block") {
        status = part->forward->run_block(block, one, n, rows.data());
        std::copy_n(rows.data(), n * width, out.data());
      } else {
        status = part->forward->run_mixer(block.mixer, one, n, rows.data(), out.data());
      }
      REQUIRE_MESSAGE(status.ok(), status.message());
      std::copy_n(out.data(), n * width, y.data() + (b * total + start) * width);
      start += n;
    }
    const MixerPlan& mixer = block.mixer;
    const size_t latents = mixer.heads * mixer.lh;
    if (c.expected.count("Z") != 0) {
      CHECK_CLOSE(c, "m", state.data() + mixer.state.maximum, latents, b * latents);
      CHECK_CLOSE(c, "Z", state.data() + mixer.state.norm, latents, b * latents);
      for (size_t l = 0; l < latents; ++l) {
        CHECK_CLOSE(c, "S", state.data() + mixer.state.sum + l * mixer.dh_pad, mixer.dh,
                    (b * latents + l) * mixer.dh);
      }
    }
  }
  CHECK_CLOSE(c, "y", y.data(), y.size(), 0);
}

// A mixer that sees ahead: real tokens are gathered in pieces, then all rows read, padded ones too.
void run_ahead_part(const Case& c, const Kernels& kernels, int threads,
                    const std::vector<int>& way) {
  const Array& x = c.inputs.at("x");
  const size_t batch = x.shape[0], total = x.shape[1], width = x.shape[2];
  const std::vector<float> values = input(c, "x");
  const auto part = make_part(c, kernels, threads, total);
  const MixerPlan& mixer = part->plan.blocks[0].mixer;
  std::vector<float> y(batch * total * width);
  for (size_t b = 0; b < batch; ++b) {
    std::vector<float> state(part->plan.state_floats);
    reset_state(part->plan, state.data());
    Sequence sequence;
    sequence.state = state.data();
    AlignedBuffer<float> rows, out;
    REQUIRE((rows.allocate(total * width) && out.allocate(total * width)));
    const auto run = [&](size_t first, size_t count, bool gather) {
      sequence.position = first;
      sequence.count = count;
      std::copy_n(values.data() + (b * total + first) * width, count * width, rows.data());
      const Status status =
          gather ? part->forward->gather(mixer, sequence, rows.data())
                 : part->forward->run_mixer(mixer, Span<const Sequence>(&sequence, 1), count,
                                            rows.data(), out.data());
      REQUIRE_MESSAGE(status.ok(), status.message());
    };
    size_t start = 0;
    for (const int piece : way) {
      const size_t n = static_cast<size_t>(std::abs(piece));
      for (const auto& [first, count] : real_runs(c, b * total, start, n)) run(first, count, true);
      start += n;
    }
    sequence.whole = total;
    start = 0;
    for (const int piece : way) {
      const size_t n = static_cast<size_t>(std::abs(piece));
      run(start, n, false);
      std::copy_n(out.data(), n * width, y.data() + (b * total + start) * width);
      start += n;
    }
  }
  CHECK_CLOSE(c, "y", y.data(), y.size(), 0);
}

// ---- the recurrent front alone ------------------------------------------------------------------

void run_front_case(const Case& c, const Kernels& kernels, const std::vector<int>& way) {
  const Array& x = c.inputs.at("x");
  const size_t batch = x.shape[0], total = x.shape[1], width = x.shape[2];
  const std::vector<float> values = input(c, "x");
  std::map<std::string, std::vector<float>> weights;
  for (const auto& [name, array] : c.weights) {
    weights[name].assign(array.data.begin(), array.data.end());
  }
  FrontPlan plan;
  if (c.kind == "conv1d") {
    plan.kind = FrontKind::kConv, plan.conv = true;
    plan.taps = c.weights.at("w").shape[0];
    plan.conv_weight = weights.at("w").data(), plan.conv_bias = weights.at("b").data();
  } else {
    plan.kind = FrontKind::kRgLru, plan.rglru = true;
    plan.blocks = c.weights.at("input_gate.w").shape[0];
    plan.block_width = width / plan.blocks;
    plan.input_gate_weight = weights.at("input_gate.w").data();
    plan.input_gate_bias = weights.at("input_gate.b").data();
    plan.a_gate_weight = weights.at("a_gate.w").data();
    plan.a_gate_bias = weights.at("a_gate.b").data();
    for (const float a : weights.at("a_param")) {
      plan.decay.push_back(c.config.value("c", 8.0f) * std::log1p(std::exp(a)));
    }
  }
  const size_t past = plan.conv ? (plan.taps - 1) * width : 0;
  std::vector<float> y(batch * total * width), conv(batch * past), hidden(batch * width);
  std::vector<float> scratch(front_scratch(plan, width, total));
  if (c.inputs.count("cache") != 0) conv = input(c, "cache");
  if (c.inputs.count("h0") != 0) hidden = input(c, "h0");
  const bool resumed = c.kind == "rglru" && !c.config.value("first_is_start", true);
  for (size_t b = 0; b < batch; ++b) {
    size_t start = 0;
    for (const int piece : way) {
      const size_t n = static_cast<size_t>(std::abs(piece)), at = (b * total + start) * width;
      run_front(plan, kernels, width, start + (resumed ? 5 : 0), n, values.data() + at,
                conv.data() + b * past, hidden.data() + b * width, y.data() + at, scratch.data());
      start += n;
    }
  }
  CHECK_CLOSE(c, "y", y.data(), y.size(), 0);
  if (plan.conv) CHECK_CLOSE(c, "cache", conv.data(), conv.size(), 0);
  if (plan.rglru) CHECK_CLOSE(c, "h", hidden.data(), hidden.size(), 0);
}

// ---- positions and rotations ------------------------------------------------------------------

void run_positions(const Case& c) {
  const size_t count = c.number("count"), dim = c.number("dim"), start = c.number("start");
  SinusoidalPositions positions;
  positions.configure(dim, false);
  std::vector<float> pe(count * dim);
  for (size_t t = 0; t < count; ++t) positions.add(start + t, pe.data() + t * dim);
  CHECK_CLOSE(c, "pe", pe.data(), pe.size(), 0);
}

void run_rotate(const Case& c, const Kernels& kernels) {
  const Array& x = c.inputs.at("x");
  const size_t rows = x.shape[0] * x.shape[1], heads = x.shape[2], n = x.shape[3];
  std::vector<float> y = input(c, "x");
  RotationTable table;
  REQUIRE(table.allocate({c.config.at("theta").get<double>(), n / 2}, 1));
  for (size_t r = 0; r < rows; ++r) {
    table.fill(0, c.number("pos0") + r % x.shape[1]);
    for (size_t h = 0; h < heads; ++h) {
      kernels.rotate(y.data() + (r * heads + h) * n, table.cosine(0),
                     table.sine(0, c.config.at("sign").get<int>()), table.half(),
                     c.config.at("style") == "interleaved");
    }
  }
  CHECK_CLOSE(c, "y", y.data(), y.size(), 0);
}

void run_case(const Case& c) {
  const bool whole_model = c.inputs.count("x") == 0 && c.inputs.count("q") == 0;
  const std::string mixer = c.config.value("mixer", "");
  const bool ahead = mixer == "latte_bid" || mixer == "linformer";
  for (const Kernels* kernels : tables_here()) {
    CAPTURE(kernels->name);
    if (c.kind == "positions") {
      run_positions(c);
      continue;
    }
    if (c.kind == "rotate") {
      run_rotate(c, *kernels);
      continue;
    }
    if (whole_model) {
      for (const int threads : thread_counts()) {
        for (const uint32_t chunk : {1u, 3u, 8u, 64u}) run_whole(c, *kernels, threads, chunk);
      }
      if (ahead || c.kind == "retrieval") continue;
    }
    const char* main_input = c.inputs.count("x") != 0     ? "x"
                             : c.inputs.count("q") != 0   ? "q"
                             : c.inputs.count("ids") != 0 ? "ids"
                                                          : "values";
    const std::vector<size_t>& shape = c.inputs.at(main_input).shape;
    const size_t total = c.kind == "latte_core" ? shape[0] : shape[1];
    for (const std::vector<int>& way : cuts(c, total)) {
      CAPTURE(way[0]);
      CAPTURE(way.size());
      if (c.kind == "latte_core") {
        run_core(c, *kernels, way);
      } else if (c.kind == "rglru" || c.kind == "conv1d") {
        run_front_case(c, *kernels, way);
      } else {
        for (const int threads : thread_counts()) {
          if (whole_model) {
            run_streamed(c, *kernels, threads, way);
          } else if (ahead) {
            run_ahead_part(c, *kernels, threads, way);
          } else {
            run_part(c, *kernels, threads, way);
          }
        }
      }
    }
  }
}

void run_registered() {
  const std::string name = doctest::getContextOptions()->currentTest->m_name;
  run_case(load_case(golden_dir() + "/" + name.substr(name.find(": ") + 2) + ".json"));
}

// doctest has no public way to register cases at run time; this is what TEST_CASE expands to.
struct Register {
  Register() {
    static std::deque<std::string> names;  // doctest keeps the pointers
    for (const std::string& path : golden_files()) {
      names.push_back("golden: " + std::filesystem::path(path).stem().string());
      doctest::detail::TestCase test(&run_registered, __FILE__, static_cast<unsigned>(names.size()),
                                     doctest_detail_test_suite_ns::getCurrentTestSuite());
      test = test * names.back().c_str();
      doctest::detail::regTest(test);
    }
  }
};
const Register kRegister;

}  // namespace

TEST_CASE("golden: the folder of cases is there") {
  INFO("MOKA_GOLDEN_DIR or tests/data/golden: " << golden_dir());
  CHECK(golden_files().size() >= 1);
}

}  // namespace moka::golden
