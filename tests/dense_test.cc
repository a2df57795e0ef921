// Dense layers against double precision: all weight kinds, odd widths, every batch up to 33, fused
// groups, shared packed weights, on every kernel table that this CPU runs, and the promise that
// neither threads nor batch mates change a bit.
#include "runtime/dense.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <deque>

#include "runtime/aligned_buffer.h"
#include "runtime/half.h"
#include "runtime/tiles.h"
#include "tests/kernel_testing.h"

namespace moka::test {
namespace {

constexpr size_t kBatch =
    33;  // beyond two of the tallest tiles of all kernels, with every remainder

std::vector<const DenseKernels*> dense_tables() {
  std::vector<const DenseKernels*> tables;
  for (const DenseKernels* table : compiled_dense_kernels()) {
    if (runs_here(*table)) tables.push_back(table);
  }
  return tables;
}

// Tensors of random numbers and their values in double.
class Matrices {
 public:
  Linear add(DType dtype, size_t out, size_t in, bool bias) {
    Random random(spec.tensors.size() * 7919 + out * 131 + in);
    Tensor tensor;
    tensor.name = "weight" + std::to_string(spec.tensors.size());
    tensor.dtype = dtype;
    tensor.shape = {static_cast<uint32_t>(out), static_cast<uint32_t>(in)};
    std::vector<double> values(out * in);
    uint8_t* data = bytes(out * in * 4);
    tensor.data = data;
    if (dtype == DType::kI8) {
      fill_int8(data, out, in, &random, &tensor, &values);
    } else if (dtype == DType::kI4) {
      fill_int4(out, in, &random, &tensor, &values);
    } else {
      for (size_t i = 0; i < out * in; ++i) values[i] = store(dtype, random.normal(), data, i);
    }
    spec.tensors.push_back(tensor);
    weights_.push_back(values);
    Linear linear;
    linear.weight = static_cast<TensorIndex>(spec.tensors.size() - 1);
    if (bias) linear.bias = add_bias(out, &random);
    return linear;
  }

  // What a test may do once everything is packed: no one reads the numbers of matrices in rows again.
  void scribble() {
    for (const Tensor& tensor : spec.tensors) {
      if (tensor.shape.size() < 2 || tensor.layout == TensorLayout::kTiles) continue;
      for (auto& buffer : memory_) {
        if (buffer.data() == tensor.data) std::memset(buffer.data(), 0x7f, buffer.size());
      }
    }
  }

  double weight(const Linear& linear, size_t o, size_t i, size_t in) const {
    return weights_[static_cast<size_t>(linear.weight)][o * in + i];
  }
  double bias(const Linear& linear, size_t o) const {
    return linear.bias == kNoTensor ? 0.0 : weights_[static_cast<size_t>(linear.bias)][o];
  }
  bool quantised(const Linear& linear) const {
    return spec.tensor(linear.weight)->scales != nullptr;
  }

  ModelSpec spec;

 private:
  uint8_t* bytes(size_t size) {
    memory_.emplace_back();
    REQUIRE(memory_.back().allocate(size));
    return memory_.back().data();
  }
  void fill_int8(uint8_t* data, size_t out, size_t in, Random* random, Tensor* tensor,
                 std::vector<double>* values) {
    float* scales = reinterpret_cast<float*>(bytes(out * 4));
    for (size_t i = 0; i < out; ++i) scales[i] = random->uniform(0.001f, 0.02f);
    tensor->quantization = Quantization::kPerChannel;
    tensor->scales = scales;
    for (size_t i = 0; i < out * in; ++i) {
      const int8_t q = static_cast<int8_t>(static_cast<int>(random->below(256)) - 128);
      reinterpret_cast<int8_t*>(data)[i] = q;
      (*values)[i] = static_cast<double>(q) * scales[i / in];
    }
  }
  void fill_int4(size_t out, size_t in, Random* random, Tensor* tensor,
                 std::vector<double>* values) {
    const size_t blocks = tile_blocks(in), tiles = tile_count(out);
    const size_t data_size = static_cast<size_t>(tile_data_bytes(DType::kI4, in));
    const size_t scale_size = static_cast<size_t>(tile_scale_bytes(DType::kI4, in));
    uint8_t* data = bytes(tiles * data_size);
    uint8_t* scales = bytes(tiles * scale_size);
    tensor->quantization = Quantization::kTwoLevel;
    tensor->block = static_cast<uint32_t>(kTileBlock);
    tensor->layout = TensorLayout::kTiles;
    tensor->data = data;
    tensor->scales = scales;
    for (size_t t = 0; t < tiles; ++t) {
      const size_t rows = std::min(kTileOutputs, out - t * kTileOutputs);
      std::vector<int8_t> q(rows * in);
      std::vector<float> scale(rows);
      std::vector<uint8_t> code(rows * blocks);
      for (float& s : scale) s = random->uniform(0.001f, 0.02f);
      for (uint8_t& c : code) c = any_code(random);
      for (size_t i = 0; i < q.size(); ++i) {
        const uint8_t of_block = code[i / in * blocks + i % in / kTileBlock];
        const int nibble = static_cast<int>(random->below(16));
        q[i] = static_cast<int8_t>((nibble - code_zero(of_block)) * code_multiplier(of_block));
        (*values)[t * kTileOutputs * in + i] =
            static_cast<double>(q[i]) * static_cast<double>(scale[i / in]);
      }
      pack_tile_i4(q.data(), in, scale.data(), code.data(), rows, in, data + t * data_size,
                   scales + t * scale_size);
    }
  }
  // Every zero, with the smallest and the largest multiplier more often than those between.
  static uint8_t any_code(Random* random) {
    const int zero = kMinZero + static_cast<int>(random->below(kMaxZero - kMinZero + 1));
    const int most = max_multiplier(zero);
    const int drawn = static_cast<int>(random->below(static_cast<uint32_t>(most) + 8)) - 3;
    return tile_code(std::min(std::max(drawn, 1), most), zero);
  }
  TensorIndex add_bias(size_t out, Random* random) {
    Tensor tensor;
    tensor.name = "bias" + std::to_string(spec.tensors.size());
    tensor.shape = {static_cast<uint32_t>(out)};
    uint8_t* data = bytes(out * 4);
    tensor.data = data;
    std::vector<double> values(out);
    for (size_t i = 0; i < out; ++i)
      values[i] = store(DType::kF32, 5.0f * random->normal(), data, i);
    spec.tensors.push_back(tensor);
    weights_.push_back(values);
    return static_cast<TensorIndex>(spec.tensors.size() - 1);
  }
  // Writes the number in its type; returns what was stored.
  static float store(DType dtype, float value, uint8_t* data, size_t index) {
    if (dtype == DType::kF32) {
      reinterpret_cast<float*>(data)[index] = value;
      return value;
    }
    const uint16_t half = dtype == DType::kF16 ? float_to_half(value)
                                               : static_cast<uint16_t>(bits_of_float(value) >> 16);
    reinterpret_cast<uint16_t*>(data)[index] = half;
    return dtype == DType::kF16 ? half_to_float(half) : bfloat16_to_float(half);
  }

  std::deque<AlignedBuffer<uint8_t>> memory_;
  std::vector<std::vector<double>> weights_;
};

// kBatch rows of inputs: ordinary, shifted, tiny, huge, zero, of one sign, one number among zeros.
// 16 bytes after the end are readable, and no more.
Floats inputs(size_t in) {
  Floats x = normals(kBatch * in + 4, in);
  for (size_t i = 0; i < in; ++i) {
    x[1 * in + i] += 3.0f;
    x[2 * in + i] *= 1e-3f;
    x[3 * in + i] *= 1e4f;
    x[4 * in + i] = 0.0f;
    x[5 * in + i] = -std::fabs(x[5 * in + i]) - 0.1f;
    x[6 * in + i] = i == in / 2 ? 2.5f : 0.0f;
  }
  return x;
}

// A row as the kernels' quantisation sees it: zero is exact, the range takes all 255 steps.
struct QuantisedRow {
  QuantisedRow(const float* x, size_t in) {
    float low = 0, high = 0;
    for (size_t i = 0; i < in; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
    const float scale = low == high ? 1.0f : 255.0f / (high - low);
    const float below = low * scale, above = high * scale;
    const float zero = (-128.0f + below) + (127.0f + above) > 0 ? -128.0f - below : 127.0f - above;
    const long zero_point = std::lrint(std::min(127.0f, std::max(-128.0f, zero)));
    step = 1.0f / scale;
    for (size_t i = 0; i < in; ++i) {
      const long q = std::lrint(x[i] * (1.0f / step));
      steps.push_back(std::min(127 - zero_point, std::max(-128 - zero_point, q)));
    }
  }
  double value(size_t i) const { return static_cast<double>(steps[i]) * static_cast<double>(step); }
  float step;
  std::vector<long> steps;
};

// What kBatch rows of the group's outputs must be.
struct Answers {
  Answers(const Matrices& matrices, const std::vector<Linear>& linears, size_t in,
          const Floats& x) {
    for (size_t r = 0; r < kBatch; ++r) {
      const float* row = x.data() + r * in;
      const QuantisedRow quantised(row, in);
      for (const Linear& linear : linears) {
        const bool integer = matrices.quantised(linear);
        for (size_t o = 0; o < matrices.spec.tensor(linear.weight)->rows(); ++o) {
          const double bias = matrices.bias(linear, o);
          double sum = 0, true_sum = 0, terms = 0, slack = 0;
          for (size_t i = 0; i < in; ++i) {
            const double weight = matrices.weight(linear, o, i, in);
            true_sum += weight * row[i];
            sum += weight * (integer ? quantised.value(i) : static_cast<double>(row[i]));
            terms += std::fabs(weight * row[i]);
            slack += std::fabs(weight) * static_cast<double>(quantised.step);
          }
          want.push_back(sum + bias);
          // Integer sums are exact. Float sums start from the bias and round at every term.
          const double exact = 8 * kEps * (std::fabs(sum) + std::fabs(bias));
          tolerance.push_back(integer
                                  ? exact
                                  : 4e-7 * terms + 2 * kEps * std::sqrt(static_cast<double>(in)) *
                                                       std::fabs(bias));
          // Independent of how quantisation goes: within a step of each input.
          if (integer) off_by_more = off_by_more || std::fabs(sum - true_sum) > slack * 1.001;
        }
      }
    }
  }
  std::vector<double> want, tolerance;
  bool off_by_more = false;
};

#if defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)
#define MOKA_ONE_THREAD 1
#else
#define MOKA_ONE_THREAD 0
#endif

struct Runner {
  Runner(PackedWeights& weights, int threads, size_t max_rows = kBatch) {
    auto made_pool = ThreadPool::create(threads);
    REQUIRE(made_pool.ok());
    pool = std::move(made_pool).value();
    auto made = DenseRunner::create(weights, *pool, max_rows);
    REQUIRE(made.ok());
    runner = std::move(made).value();
  }
  // Rows of group.row floats, -5 where nothing was written.
  Floats run(const DenseGroup& group, size_t rows, const float* x) {
    Floats y = outputs(rows * group.row);
    std::fill(y.begin(), y.end(), -5.0f);
    const Status status = runner->run(group, rows, x, y.data());
    INFO(status.to_string());
    REQUIRE(status.ok());
    return y;
  }
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<DenseRunner> runner;
};

std::unique_ptr<PackedWeights> packed_weights(const DenseKernels* kernels = nullptr) {
  auto made = PackedWeights::create(kernels);
  REQUIRE(made.ok());
  return std::move(made).value();
}

// Outputs stand at `column` of rows of group.row floats; everything else is as it was.
void check_rows(const Floats& y, const DenseGroup& group, size_t rows, size_t column,
                const Answers& answers) {
  const size_t width = answers.want.size() / kBatch;
  Deviation deviation;
  bool rest_stays = true;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = 0; j < group.row; ++j) {
      const float got = y[r * group.row + j];
      if (j < column || j >= column + width) {
        rest_stays = rest_stays && got == -5.0f;
      } else {
        const size_t at = r * width + j - column;
        deviation.add(got, answers.want[at], answers.tolerance[at], at);
      }
    }
  }
  CHECK_DEVIATION(deviation);
  CHECK(rest_stays);
  CHECK_INTACT(y);
}

std::string name(DType dtype) { return dtype_name(dtype); }

const DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kI4};
const size_t kShapes[][2] = {{1, 1},    {1, 5},    {5, 1},    {7, 2},   {16, 16},
                             {43, 43},  {43, 129}, {64, 64},  {96, 7},  {100, 40},
                             {101, 33}, {256, 70}, {300, 19}, {576, 64}};

}  // namespace

TEST_CASE("kernel dense: every weight kind, width and batch, on every table") {
  for (const DType dtype : kTypes) {
    const bool quantised = dtype == DType::kI8 || dtype == DType::kI4;
    for (const auto& shape : kShapes) {
      for (const bool bias : {false, true}) {
        const size_t in = shape[0], out = shape[1];
        Matrices matrices;
        const std::vector<Linear> linears = {matrices.add(dtype, out, in, bias)};
        const Floats x = inputs(in);
        const Answers answers(matrices, linears, in, x);
        CHECK(!answers.off_by_more);
        std::vector<float> first;  // of the first table: others give the same bits
        for (const DenseKernels* table : dense_tables()) {
          if (!quantised && table != dense_tables().front()) continue;  // XNNPACK's either way
          auto weights = packed_weights(table);
          const DenseGroup group = weights->add(matrices.spec, linears, in, 0, out);
          Runner runner(*weights, 1);
          for (size_t rows = 1; rows <= kBatch; ++rows) {
            INFO(table->name << ": " << name(dtype) << " " << in << " -> " << out << ", bias "
                             << bias << ", rows " << rows);
            const Floats y = runner.run(group, rows, x.data());
            check_rows(y, group, rows, 0, answers);
            if (rows < kBatch) continue;
            if (first.empty()) first.assign(y.data(), y.data() + y.size());
            const bool rounds_once = std::string(table->name) != "scalar";
            if (rounds_once) CHECK(same_bits(y.data(), first.data(), y.size()));
          }
        }
      }
    }
  }
}

TEST_CASE("kernel dense: fused groups of mixed kinds, in columns of wider rows") {
  constexpr size_t kIn = 43;
  Matrices matrices;
  const std::vector<Linear> linears = {
      matrices.add(DType::kF32, 43, kIn, false), matrices.add(DType::kBF16, 5, kIn, true),
      matrices.add(DType::kI8, 17, kIn, true),   matrices.add(DType::kI4, 43, kIn, false),
      matrices.add(DType::kF16, 1, kIn, true),   matrices.add(DType::kI8, 1, kIn, true),
      matrices.add(DType::kI4, 40, kIn, true),   matrices.add(DType::kF32, 64, kIn, false)};
  const size_t total = 43 + 5 + 17 + 43 + 1 + 1 + 40 + 64;
  auto weights = packed_weights();
  const std::vector<Linear> other = {matrices.add(DType::kI8, 9, 20, true)};
  const DenseGroup first = weights->add(matrices.spec, other, 20, 2, 16);
  const DenseGroup group = weights->add(matrices.spec, linears, kIn, 3, total + 8);

  // Float neighbours are one operator.
  CHECK(first.first == 0);
  CHECK(first.count == 1);
  CHECK(group.first == 1);
  CHECK(group.count == 7);
  CHECK(group.in == kIn);
  CHECK(group.row == total + 8);
  const size_t columns[] = {2, 3, 51, 68, 111, 112, 113, 153},
               outs[] = {9, 48, 17, 43, 1, 1, 40, 64};
  REQUIRE(weights->layers().size() == 8);
  for (size_t i = 0; i < 8; ++i) {
    const DenseLayer& layer = weights->layers()[i];
    CAPTURE(i);
    CHECK(layer.column == columns[i]);
    CHECK(layer.out == outs[i]);
    CHECK((layer.kind == DenseKind::kInt8) == (i == 0 || i == 2 || i == 5));
    CHECK((layer.kind == DenseKind::kInt4) == (i == 3 || i == 6));
  }

  const Floats x = inputs(kIn), x_other = inputs(20);
  const Answers answers(matrices, linears, kIn, x), other_answers(matrices, other, 20, x_other);
  Runner runner(*weights, 1);
  for (const size_t rows : {33, 1, 2, 3, 16, 17, 2, 33, 7}) {
    CAPTURE(rows);
    check_rows(runner.run(group, rows, x.data()), group, rows, 3, answers);
    check_rows(runner.run(first, rows, x_other.data()), first, rows, 2, other_answers);
  }
}

TEST_CASE("kernel dense: runners share the packed bytes and never read the originals again") {
  constexpr size_t kIn = 256, kOut = 300;
  Matrices matrices;
  const std::vector<Linear> linears = {matrices.add(DType::kI8, kOut, kIn, true),
                                       matrices.add(DType::kI8, 7, kIn, true),
                                       matrices.add(DType::kF32, 43, kIn, true)};
  const std::vector<Linear> lone = {matrices.add(DType::kI8, kOut, kIn, true)};
  const Floats x = inputs(kIn);
  const Answers answers(matrices, linears, kIn, x), lone_answers(matrices, lone, kIn, x);
  auto weights = packed_weights();
  const DenseGroup group = weights->add(matrices.spec, linears, kIn, 0, 350);
  const DenseGroup lone_group = weights->add(matrices.spec, lone, kIn, 0, kOut);
  CHECK(weights->bytes() == 0);

  auto first = std::make_unique<Runner>(*weights, 1);
  const size_t bytes = weights->bytes();
  // Held once: a little more than the weights themselves, for padded outputs, scales and biases.
  const size_t plain = (kOut + 7 + kOut) * kIn + 43 * kIn * sizeof(float);
  CHECK(bytes >= plain);
  CHECK(bytes < plain + plain / 4);

  matrices.scribble();
  Runner second(*weights, 1), third(*weights, MOKA_ONE_THREAD ? 1 : 2, 5);
  CHECK(weights->bytes() == bytes);
  for (const size_t rows : {1, 2, 33}) {
    CAPTURE(rows);
    const Floats y = second.run(group, rows, x.data());
    check_rows(y, group, rows, 0, answers);
    check_rows(second.run(lone_group, rows, x.data()), lone_group, rows, 0, lone_answers);
    CHECK(same_bits(y.data(), first->run(group, rows, x.data()).data(), y.size()));
  }
  first.reset();  // runners come and go; the packed weights stay
  check_rows(second.run(group, 33, x.data()), group, 33, 0, answers);
  check_rows(third.run(group, 5, x.data()), group, 5, 0, answers);
  CHECK(weights->bytes() == bytes);
}

#if !MOKA_ONE_THREAD
// Layers large enough to be handed to threads, the smaller one only from some batch on.
TEST_CASE("kernel dense: one thread and two give the same bits") {
  for (const DType dtype : {DType::kF32, DType::kI8, DType::kI4}) {
    for (const size_t out : {301, 1100}) {
      constexpr size_t kIn = 401;
      Matrices matrices;
      const std::vector<Linear> linears = {matrices.add(dtype, out, kIn, true)};
      const Floats x = inputs(kIn);
      auto weights = packed_weights();
      const DenseGroup group = weights->add(matrices.spec, linears, kIn, 0, out);
      Runner one(*weights, 1), two(*weights, 2), three(*weights, 3);
      for (const size_t rows : {1, 2, 3, 4, 6, 7, 8, 13, 14, 15, 16, 17, 32, 33}) {
        INFO(name(dtype) << " " << kIn << " -> " << out << ", rows " << rows);
        const Floats y = one.run(group, rows, x.data());
        CHECK(same_bits(y.data(), two.run(group, rows, x.data()).data(), y.size()));
        CHECK(same_bits(y.data(), three.run(group, rows, x.data()).data(), y.size()));
      }
    }
  }
}
#endif

TEST_CASE("kernel dense: a row alone and in any batch gives the same bits, on every table") {
  for (const DType dtype : kTypes) {
    for (const auto& shape : kShapes) {
      const size_t in = shape[0], out = shape[1];
      Matrices matrices;
      const std::vector<Linear> linears = {matrices.add(dtype, out, in, true)};
      const Floats x = inputs(in);
      for (const DenseKernels* table : dense_tables()) {
        if (matrices.spec.tensors[0].scales == nullptr && table != dense_tables().front()) continue;
        auto weights = packed_weights(table);
        const DenseGroup group = weights->add(matrices.spec, linears, in, 0, out);
        Runner runner(*weights, 1);
        const Floats whole = runner.run(group, kBatch, x.data());
        for (size_t rows = 1; rows < kBatch; ++rows) {
          // The first rows of the batch, and its last ones: every row, with all kinds of mates.
          const size_t tail = kBatch - rows;
          INFO(table->name << ": " << name(dtype) << " " << in << " -> " << out << ", " << rows
                           << " rows");
          CHECK(same_bits(runner.run(group, rows, x.data()).data(), whole.data(), rows * out));
          CHECK(same_bits(runner.run(group, rows, x.data() + tail * in).data(),
                          whole.data() + tail * out, rows * out));
        }
        for (size_t r = 0; r < kBatch; ++r) {
          INFO(table->name << ": " << name(dtype) << " " << in << " -> " << out << ", row " << r
                           << " alone");
          CHECK(same_bits(runner.run(group, 1, x.data() + r * in).data(), whole.data() + r * out,
                          out));
        }
      }
    }
  }
}

TEST_CASE("kernel dense: nothing to do") {
  auto weights = packed_weights();
  Runner runner(*weights, 1);
  CHECK(weights->bytes() == 0);
  CHECK(runner.runner->scratch_bytes() == 0);
  const DenseGroup none = weights->add(ModelSpec(), {}, 4, 0, 4);
  CHECK(none.count == 0);
  const Floats x = normals(8, 1), y = runner.run(none, 1, x.data());
  for (size_t i = 0; i < y.size(); ++i) CHECK(y[i] == -5.0f);
}

}  // namespace moka::test
