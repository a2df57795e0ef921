// Runs every parity case on every kernel table that this CPU runs, cut into chunks in many ways.
// Cases are found at start and registered by name: "golden: NAME".
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <limits>

#include "moka/moka.h"
#include "runtime/forward.h"
#include "runtime/front.h"
#include "runtime/kernels/kernels.h"
#include "runtime/rotation.h"
#include "runtime/state.h"
#include "tests/golden_case.h"

namespace moka::golden {
namespace {

std::vector<const Kernels*> tables_here() {
  std::vector<const Kernels*> tables;
  for (const Kernels* table : compiled_kernels()) {
    if ((table->needs & ~cpu_features()) == 0) tables.push_back(table);
  }
  return tables;
}

// The worst violation of |got - want| <= atol + rtol |want|, as a share of the right side.
template <class T>
double worst(const Case& c, const std::string& name, const T* got, size_t count,
             size_t offset = 0) {
  const Array& want = c.expected.at(name);
  REQUIRE(offset + count <= want.size());
  double share = 0;
  for (size_t i = 0; i < count; ++i) {
    const double value = want.data[offset + i];
    const double error = std::fabs(static_cast<double>(got[i]) - value);
    share = std::max(share, std::isnan(error) ? 1e9 : error / (c.atol + c.rtol * std::fabs(value)));
  }
  return share;
}

#define CHECK_CLOSE(c, name, got, count, offset)                        \
  do {                                                                  \
    const double share_ = worst((c), (name), (got), (count), (offset)); \
    INFO((name) << " reaches " << share_ << " of the tolerance");       \
    CHECK(share_ <= 1.0);                                               \
  } while (false)

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

std::vector<float> input(const Case& c, const std::string& name) {
  const Array& array = c.inputs.at(name);
  return std::vector<float>(array.data.begin(), array.data.end());
}

// ---- latte_core: one kernel ---------------------------------------------------------------------

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
      LatentArgs a;
      a.n = static_cast<size_t>(std::abs(piece)), a.lh = lh, a.dh_pad = dp;
      a.p = p.data() + start * lh, a.p_stride = lh;
      a.k = keys.data() + (start * heads + h) * lh, a.k_stride = heads * lh;
      a.v = v.data() + start * dp, a.v_stride = dp;
      a.m = m.data(), a.z = z.data(), a.s = s.data();
      a.y = y.data() + start * dp, a.y_stride = dp;
      a.scratch = scratch.data();
      kernels.latent(a);
      start += a.n;
      if (start == static_cast<size_t>(c.config.value("split", 0))) {
        CHECK_CLOSE(c, "mid_m", m.data(), lh, h * lh);
        CHECK_CLOSE(c, "mid_Z", z.data(), lh, h * lh);
      }
    }
    for (size_t t = 0; t < total; ++t) {
      std::copy_n(y.data() + t * dp, dh, out.data() + (t * heads + h) * dh);
    }
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
void round_trip(const Plan& plan, uint64_t position, std::vector<float>* state) {
  SessionRecord record;
  record.fingerprint = 7;
  record.position = position;
  record.logits.assign(plan.outputs, 0.5f);
  const std::vector<uint8_t> bytes = save_state(plan, state->data(), record);
  std::fill(state->begin(), state->end(), -3.0f);
  SessionRecord back;
  back.fingerprint = 7;
  const Status status = restore_state(plan, bytes, state->data(), &back);
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
    size_t start = 0;
    for (const int piece : way) {
      const size_t n = static_cast<size_t>(std::abs(piece));
      if (piece < 0) round_trip(part->plan, start, &state);
      Sequence sequence;
      sequence.state = state.data();
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

// ---- whole models through the public interface --------------------------------------------------

void run_lm(const Case& c, const Kernels& kernels, int threads, const std::vector<int>& way) {
  const BuiltSpec built = build_spec(c);
  OpenOptions options;
  options.isa = kernels.name;
  options.executor.threads = threads;
  auto model = Model::from_spec(built.spec, options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  const Array& ids = c.inputs.at("ids");
  const size_t batch = ids.shape[0], total = ids.shape[1], outputs = model.value().info().outputs;
  std::vector<float> logits(batch * total * outputs);
  for (size_t b = 0; b < batch; ++b) {
    auto session = model.value().new_session();
    REQUIRE(session.ok());
    size_t start = 0;
    for (const int piece : way) {
      const size_t n = static_cast<size_t>(std::abs(piece));
      if (piece < 0) {
        const auto bytes = session.value().save();
        REQUIRE(bytes.ok());
        session.value().reset();
        REQUIRE(session.value().restore(bytes.value()).ok());
      }
      std::vector<TokenId> tokens;
      for (size_t i = 0; i < n; ++i) {
        tokens.push_back(static_cast<TokenId>(ids.data[b * total + start + i]));
      }
      float* out = logits.data() + (b * total + start) * outputs;
      const Status status = session.value().append(
          tokens, [out, outputs](size_t first, size_t rows, const float* values, size_t stride) {
            for (size_t r = 0; r < rows; ++r) {
              std::copy_n(values + r * stride, outputs, out + (first + r) * outputs);
            }
            return Status();
          });
      REQUIRE_MESSAGE(status.ok(), status.message());
      start += n;
    }
  }
  CHECK_CLOSE(c, "logits", logits.data(), logits.size(), 0);
}

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
    const char* main_input =
        c.inputs.count("x") != 0 ? "x" : (c.inputs.count("q") != 0 ? "q" : "ids");
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
        for (const int threads : {1, 2}) {
          if (c.kind == "lm") run_lm(c, *kernels, threads, way);
          if (c.kind != "lm") run_part(c, *kernels, threads, way);
        }
      }
    }
  }
}

void run_registered() {
  const std::string name = doctest::getContextOptions()->currentTest->m_name;
  const std::string file = name.substr(name.find(": ") + 2);
  run_case(load_case(golden_dir() + "/" + file.substr(0, file.find(' ')) + ".json"));
}

// doctest has no public way to register cases at run time; this is what TEST_CASE expands to.
struct Register {
  Register() {
    static std::deque<std::string> names;  // doctest keeps the pointers
    for (const std::string& path : golden_files()) {
      const Case c = load_case(path);
      const std::string lacks = missing(c);
      names.push_back("golden: " + std::filesystem::path(path).stem().string() +
                      (lacks.empty() ? "" : " (skipped: no " + lacks + " yet)"));
      doctest::detail::TestCase test(&run_registered, __FILE__, static_cast<unsigned>(names.size()),
                                     doctest_detail_test_suite_ns::getCurrentTestSuite());
      test = test * names.back().c_str();
      if (!lacks.empty()) test = test * doctest::skip(true);
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
