// Products of activations, on every table that this CPU runs, against double precision.
#include <doctest/doctest.h>

#include "tests/kernel_testing.h"

namespace moka::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A product with its operands in blocks that end with the last element that may be read.
struct Product {
  Product(size_t rows, size_t columns, size_t depth, size_t extra, uint64_t seed)
      : a(normals(span_of(rows, depth, extra), seed)),
        b(normals(span_of(depth, columns, extra), seed + 1)),
        c(copy_of(normals(span_of(rows, columns, extra), seed + 2), true)),
        before(copy_of(c, false)) {
    args.m = rows, args.n = columns, args.k = depth;
    args.a = a.data(), args.lda = depth + extra;
    args.b = b.data(), args.ldb = columns + extra;
    args.c = c.data(), args.ldc = columns + extra;
  }
  static size_t span_of(size_t rows, size_t columns, size_t extra) {
    return rows == 0 ? 0 : (rows - 1) * (columns + extra) + columns;
  }
  bool used(size_t i, size_t x) const {
    return args.triangle != Triangle::kLowerInput || x <= i + args.shift;
  }
  bool wanted(size_t i, size_t j) const {
    return args.triangle != Triangle::kLowerOutput || j <= i;
  }

  // Compares C with the reference, and the gaps between its rows with what was there.
  void check() const {
    Deviation deviation;
    bool gaps_stay = true;
    for (size_t at = 0; at < c.size(); ++at) {
      const size_t i = at / args.ldc, j = at % args.ldc;
      if (j >= args.n) {
        gaps_stay = gaps_stay && c[at] == before[at];
        continue;
      }
      if (!wanted(i, j)) continue;
      double sum = args.accumulate ? before[at] : 0.0, terms = std::fabs(sum);
      for (size_t x = 0; x < args.k; ++x) {
        if (!used(i, x)) continue;
        const double term = static_cast<double>(a[i * args.lda + x]) * b[x * args.ldb + j];
        sum += term;
        terms += std::fabs(term);
      }
      deviation.add(c[at], sum, (2 + static_cast<double>(args.k)) * kEps * terms, at);
    }
    CHECK_DEVIATION(deviation);
    CHECK(gaps_stay);
    CHECK_INTACT(c);
  }

  Floats a, b, c, before;
  GemmArgs args;
};

const size_t kRows[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 24, 64};
const size_t kColumns[] = {1,  2,  3,  4,  5,  7,  8,  9,   15,  16, 17,
                           31, 32, 33, 43, 63, 64, 65, 127, 128, 129};
const size_t kDepths[] = {0, 1, 2, 3, 16, 43, 64};

}  // namespace

TEST_CASE("kernel gemm: shapes, strides, accumulation") {
  for (const Kernels* table : kernel_tables()) {
    const std::string isa = table->name;
    for (const size_t m : kRows) {
      for (const size_t n : kColumns) {
        for (const size_t k : kDepths) {
          INFO(isa << " " << m << " x " << n << " x " << k);
          const size_t extra = (m + n + k) % 3;
          Product product(m, n, k, extra, m * 1000 + n);
          product.args.accumulate = (m + k) % 2 == 0;
          table->gemm(product.args);
          product.check();
        }
      }
    }
  }
}

// A stands column by column, B in blocks of 16 columns: the same bits as from plain rows.
TEST_CASE("kernel gemm: transposed A, B in blocks") {
  for (const Kernels* table : kernel_tables()) {
    const std::string isa = table->name;
    for (const size_t m : kRows) {
      for (const size_t n : kColumns) {
        for (const size_t k : kDepths) {
          INFO(isa << " " << m << " x " << n << " x " << k);
          Product plain(m, n, k, 0, m * 1000 + n);
          table->gemm(plain.args);
          const size_t block = k * kRowPad + 32;
          Floats columns(m * k), blocks(n == 0 ? 0 : (n - 1) / kRowPad * block + k * kRowPad);
          for (size_t i = 0; i < m; ++i) {
            for (size_t x = 0; x < k; ++x) columns[x * m + i] = plain.a[i * k + x];
          }
          for (size_t x = 0; x < k; ++x) {
            for (size_t j = 0; j < n; ++j) {
              blocks[j / kRowPad * block + x * kRowPad + j % kRowPad] = plain.b[x * n + j];
            }
          }
          Floats c = outputs(m * n);
          GemmArgs args = plain.args;
          args.a = columns.data(), args.lda = 1, args.a_step = m;
          args.b = blocks.data(), args.ldb = kRowPad, args.b_block = block;
          args.c = c.data();
          table->gemm(args);
          CHECK(same_bits(c.data(), plain.c.data(), c.size()));
          CHECK_INTACT(c);
        }
      }
    }
  }
}

TEST_CASE("kernel gemm: empty products write nothing") {
  for (const Kernels* table : kernel_tables()) {
    const std::string isa = table->name;
    CAPTURE(isa);
    Product product(3, 20, 5, 0, 1);
    for (GemmArgs args : {product.args, product.args}) {
      args.m = 0;
      table->gemm(args);
      args.m = 3, args.n = 0;
      table->gemm(args);
      args.n = 20, args.k = 0, args.accumulate = true;
      table->gemm(args);
    }
    CHECK(same_bits(product.c.data(), product.before.data(), product.c.size()));
    CHECK_INTACT(product.c);
  }
}

TEST_CASE("kernel gemm: lower triangle of the output") {
  for (const Kernels* table : kernel_tables()) {
    const std::string isa = table->name;
    for (const size_t m : kRows) {
      // A chunk's square, padded to whole rows, and outputs narrower and wider than that.
      for (const size_t n : {m, pad_row(m), m / 2 + 1, 2 * m + 5}) {
        for (const size_t k : {1, 7, 64}) {
          INFO(isa << " " << m << " x " << n << " x " << k);
          Product product(m, n, k, 3, m * 100 + n);
          product.args.triangle = Triangle::kLowerOutput;
          product.args.accumulate = n % 2 == 0;
          table->gemm(product.args);
          product.check();
        }
      }
    }
  }
}

TEST_CASE("kernel gemm: lower triangle of the input") {
  for (const Kernels* table : kernel_tables()) {
    const std::string isa = table->name;
    for (const size_t m : kRows) {
      for (const size_t shift : {0, 1, 3, 16, 127}) {
        for (const size_t n : {1, 16, 43, 64}) {
          INFO(isa << " " << m << " x " << n << ", shift " << shift);
          const size_t k = m + shift + 2;
          Product product(m, n, k, 1, m * 100 + n);
          product.args.triangle = Triangle::kLowerInput;
          product.args.shift = shift;
          // Above the diagonal A is zero. Columns that no row uses are not even read.
          for (size_t i = 0; i < m; ++i) {
            for (size_t x = i + shift + 1; x < k; ++x) {
              product.a[i * product.args.lda + x] = x < m + shift ? 0.0f : kNan;
            }
          }
          table->gemm(product.args);
          product.check();
        }
      }
    }
  }
}

// The promise that batches and chunks rest on.
TEST_CASE("kernel gemm: an element's bits do not depend on the rows around it") {
  for (const Kernels* table : kernel_tables()) {
    const std::string isa = table->name;
    for (const size_t n : kColumns) {
      for (const Triangle triangle :
           {Triangle::kFull, Triangle::kLowerOutput, Triangle::kLowerInput}) {
        for (const bool accumulate : {false, true}) {
          constexpr size_t kMost = 13;
          const size_t k = triangle == Triangle::kLowerInput ? kMost + 2 : 43;
          Product whole(kMost, n, k, 1, n);
          whole.args.accumulate = accumulate;
          whole.args.triangle = triangle;
          whole.args.shift = triangle == Triangle::kLowerInput ? 2 : 0;
          if (triangle == Triangle::kLowerInput) {
            for (size_t i = 0; i < kMost; ++i) {
              for (size_t x = i + 3; x < k; ++x) whole.a[i * whole.args.lda + x] = 0.0f;
            }
          }
          table->gemm(whole.args);
          const auto row_equal = [&](const Floats& c, size_t at, size_t i) {
            const size_t count = triangle == Triangle::kLowerOutput ? std::min(i + 1, n) : n;
            return same_bits(c.data() + at, whole.c.data() + i * whole.args.ldc, count);
          };
          for (size_t m = 1; m <= kMost; ++m) {
            INFO(isa << " " << m << " of 13 rows, " << n << " columns, triangle "
                     << static_cast<int>(triangle) << ", accumulate " << accumulate);
            Floats c = copy_of(whole.before, false);
            GemmArgs args = whole.args;
            args.c = c.data();
            args.m = m;
            table->gemm(args);
            bool equal = true;
            for (size_t i = 0; i < m; ++i) equal = equal && row_equal(c, i * args.ldc, i);
            CHECK(equal);
          }
          for (size_t i = 0; i < kMost; ++i) {
            INFO(isa << " row " << i << " alone, " << n << " columns, triangle "
                     << static_cast<int>(triangle) << ", accumulate " << accumulate);
            Floats c = copy_of(whole.before, false);
            GemmArgs args = whole.args;
            args.m = 1, args.triangle = Triangle::kFull;
            args.a = whole.a.data() + i * args.lda;
            args.c = c.data() + i * args.ldc;
            table->gemm(args);
            CHECK(row_equal(c, i * args.ldc, i));
          }
        }
      }
    }
  }
}

}  // namespace moka::test
