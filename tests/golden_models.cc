// Parity cases that are whole models, through the public interface.
#include "moka/moka.h"
#include "tests/golden_check.h"

namespace moka::golden {
namespace {

// The case's model, opened.
struct Opened {
  BuiltSpec built;
  std::optional<Model> model;
};

Opened open_case(const Case& c, const Kernels& kernels, int threads, uint32_t chunk) {
  Opened opened{build_spec(c), {}};
  OpenOptions options;
  options.isa = kernels.name;
  options.executor.threads = threads;
  options.executor.chunk = chunk;
  auto model = Model::from_spec(opened.built.spec, options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  opened.model.emplace(std::move(model).value());
  return opened;
}

// One row of a batch of inputs: (B, T), (B, T, F) or, for `document`s of pairs, (B, 2, T).
struct Row {
  std::vector<TokenId> tokens;
  std::vector<float> values;
  SequenceInput input() const {
    return tokens.empty() ? SequenceInput(Span<const float>(values))
                          : SequenceInput(Span<const TokenId>(tokens));
  }
};

Row row_of(const Case& c, const std::string& name, size_t index, size_t rows) {
  const Array& array = c.inputs.at(name);
  const size_t size = array.size() / rows;
  Row row;
  for (size_t i = index * size; i < (index + 1) * size; ++i) {
    if (name == "ids" || name == "memory_ids") {
      row.tokens.push_back(static_cast<TokenId>(array.data[i]));
    } else {
      row.values.push_back(static_cast<float>(array.data[i]));
    }
  }
  return row;
}

std::string input_name(const Case& c) {
  for (const char* name : {"ids", "pixels", "values"}) {
    if (c.inputs.count(name) != 0) return name;
  }
  throw std::runtime_error(c.name + ": no input");
}

std::string output_name(const Case& c) {
  if (c.kind == "embedding") return "vectors";
  return c.kind == "regression" ? "values" : "logits";
}

LogitsSink store_in(float* out, size_t outputs) {
  return [out, outputs](size_t first, size_t rows, const float* values, size_t stride) {
    for (size_t r = 0; r < rows; ++r) {
      std::copy_n(values + r * stride, outputs, out + (first + r) * outputs);
    }
    return Status();
  };
}

}  // namespace

void run_whole(const Case& c, const Kernels& kernels, int threads, uint32_t chunk) {
  const Opened opened = open_case(c, kernels, threads, chunk);
  const Model& model = *opened.model;
  const std::string name = input_name(c);
  const Array& inputs = c.inputs.at(name);
  const Array& want = c.expected.at(output_name(c));
  const size_t batch = inputs.shape[0], outputs = model.info().outputs;
  std::vector<float> got(want.size());
  for (size_t b = 0; b < batch; ++b) {
    float* out = got.data() + b * (got.size() / batch);
    if (c.kind == "retrieval") {
      const Row first = row_of(c, name, 2 * b, 2 * batch);
      const Row second = row_of(c, name, 2 * b + 1, 2 * batch);
      const auto logits = read_pair(model, first.input(), second.input());
      REQUIRE_MESSAGE(logits.ok(), logits.status().message());
      std::copy_n(logits.value().data(), outputs, out);
      continue;
    }
    const Row row = row_of(c, name, b, batch);
    ReadOptions options;
    Row memory;
    if (c.kind == "cross") {
      memory = row_of(c, "memory_ids", b, batch);
      options.memory = memory.input();
    }
    const Status status = read_sequence(model, row.input(), store_in(out, outputs), options);
    REQUIRE_MESSAGE(status.ok(), status.message());
  }
  CHECK_CLOSE(c, output_name(c), got.data(), got.size(), 0);
}

// Pooled outputs are compared after the last real token, rows after every token.
void run_streamed(const Case& c, const Kernels& kernels, int threads, const std::vector<int>& way) {
  const Opened opened = open_case(c, kernels, threads, 64);
  const Model& model = *opened.model;
  const std::string name = input_name(c);
  const bool pooled = c.kind == "classifier" || c.kind == "embedding";
  const size_t batch = c.inputs.at(name).shape[0], outputs = model.info().outputs;
  std::vector<float> got(c.expected.at(output_name(c)).size());
  for (size_t b = 0; b < batch; ++b) {
    Row row = row_of(c, name, b, batch);
    auto made = model.new_session();
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    Session session = std::move(made).value();
    if (c.kind == "cross") {
      const std::vector<TokenId> memory = row_of(c, "memory_ids", b, batch).tokens;
      const bool pieces = c.config.at("memory_mixer") == "latte_causal";
      const size_t step = pieces ? static_cast<size_t>(std::abs(way[0])) : memory.size();
      for (size_t at = 0; at < memory.size(); at += step) {
        const size_t count = std::min(step, memory.size() - at);
        const Status status = session.append_memory(Span<const TokenId>(memory.data() + at, count));
        REQUIRE_MESSAGE(status.ok(), status.message());
      }
      CHECK(session.memory_position() == memory.size());
    }
    size_t start = 0;
    for (const int piece : way) {
      size_t n = static_cast<size_t>(std::abs(piece));
      if (piece < 0) {
        const auto bytes = session.save();
        REQUIRE(bytes.ok());
        session.reset();
        const Status status = session.restore(bytes.value());
        REQUIRE_MESSAGE(status.ok(), status.message());
      }
      float* out = got.data() + (pooled ? b : b * (got.size() / batch / outputs) + start) * outputs;
      Status status;
      if (row.tokens.empty()) {
        const size_t features = model.info().features;
        status = session.append_values(
            Span<const float>(row.values.data() + start * features, n * features),
            store_in(out, outputs));
      } else {
        size_t real = 0;
        while (real < n && row.tokens[start + real] != model.info().pad_id) ++real;
        n = real;
        const Span<const TokenId> tokens(row.tokens.data() + start, n);
        status = pooled ? session.append(tokens) : session.append(tokens, store_in(out, outputs));
      }
      REQUIRE_MESSAGE(status.ok(), status.message());
      if (pooled) std::copy_n(session.logits().data(), outputs, out);
      start += n;
      if (start < row.tokens.size() && row.tokens[start] == model.info().pad_id) break;
    }
  }
  CHECK_CLOSE(c, output_name(c), got.data(), got.size(), 0);
}

}  // namespace moka::golden
