// Checkpoints of the Latte authors' code, from their files to the numbers that their code gives: the
// parity cases under the authors' names, always; and real ones, where they are at hand.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "converter/convert.h"
#include "converter/npy.h"
#include "moka/moka.h"
#include "tests/checkpoint_bytes.h"
#include "tests/golden_case.h"
#include "tests/process.h"

namespace moka {
namespace {

using test::mp_map;
using test::mp_ndarray;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// "block1.mixer.Wq" as the authors' modules name it: specification 19.2.
std::string authors_name(const std::string& name, const golden::Case& c) {
  const bool language = c.kind == "lm", glu = c.config.at("block") == "glu";
  const std::string encoder = language ? "Encoder_0/" : "encoder/";
  const std::map<std::string, std::string> whole = {
      {"embed.embedding", encoder + "Embed_0/embedding"},
      {"embed.kernel", encoder + "Dense_0/kernel"},
      {"embed.bias", encoder + "Dense_0/bias"},
      {"final_norm.scale", "LayerNorm_0/scale"},
      {"final_norm.bias", "LayerNorm_0/bias"},
      {"head.kernel", language ? "Dense_0/kernel" : "_head/kernel"},
      {"head.bias", language ? "Dense_0/bias" : "_head/bias"},
      {"mlp.kernel", "mlp/kernel"},
      {"mlp.bias", "mlp/bias"},
      {"logits.kernel", "logits/kernel"},
      {"logits.bias", "logits/bias"},
  };
  const auto found = whole.find(name);
  if (found != whole.end()) return found->second;
  const size_t dot = name.find('.');
  const std::string index = name.substr(std::string("block").size(), dot - 5);
  std::string rest = name.substr(dot + 1);
  const bool causal = c.config.at("mixer") == "latte_causal";
  const std::string mixer = causal ? "StableScanLatte_0/" : "BidLatte_0/";
  rest = replaced(rest, "mixer.Wo", mixer + "o_proj");
  rest = replaced(rest, "mixer.", mixer);
  rest = replaced(rest, "norm1.", "LayerNorm_0/");
  rest = replaced(rest, "norm2.", "LayerNorm_1/");
  for (const char* first : {"fc1.", "value."}) rest = replaced(rest, first, "Dense_0/");
  for (const char* second : {"fc2.", "gate."}) rest = replaced(rest, second, "Dense_1/");
  return encoder + (glu ? "GLUBlock_" : "TransBlock_") + index + "/" + rest;
}

// Writes the case as a training run: checkpoints/7/default/checkpoint and config.yaml.
void write_run(const golden::Case& c, const std::string& folder) {
  test::MsgpackTree params;
  for (const auto& [name, array] : c.weights) {
    const std::vector<float> values(array.data.begin(), array.data.end());
    params.put(authors_name(name, c),
               mp_ndarray(std::vector<uint64_t>(array.shape.begin(), array.shape.end()), "float32",
                          test::raw(values)));
  }
  const std::string step = folder + "/checkpoints/7/default";
  std::filesystem::create_directories(step);
  test::write_file(
      step + "/checkpoint",
      mp_map({{"model", mp_map({{"step", mp_ndarray({}, "int32", test::little_endian(7, 4))},
                                {"params", params.bytes()},
                                {"opt_state", mp_map({})}})}}));
  const size_t length = c.inputs.begin()->second.shape[c.kind == "retrieval" ? 2 : 1];
  std::string yaml = "# a run\n";
  const auto line = [&yaml](const std::string& key, const std::string& value) {
    yaml += key + ": " + value + "\n";
  };
  line("hidden_dim", std::to_string(c.number("D")));
  line("nheads", std::to_string(c.number("heads")));
  line("L", std::to_string(c.number("L")));
  line("nlayers", std::to_string(c.number("layers")));
  line("max_seq_len", std::to_string(length));
  line("prenorm", c.config.value("prenorm", true) ? "True" : "False");
  line("batchnorm", "False");
  line("block_type", c.config.at("block"));
  line("attention_type", c.config.at("mixer") == "latte_causal" ? "stable_latte" : "\"bid_latte\"");
  line("lr", "0.001  # of training");
  if (c.kind != "lm") {
    line("pool", c.config.at("pool") == "cls" ? "CLS" : c.config.at("pool").get<std::string>());
    line("num_classes", std::to_string(c.number("classes")));
  }
  test::write_file(folder + "/config.yaml", yaml);
}

Result<ConvertReport> convert_run(const std::string& input, const std::string& output,
                                  std::optional<int32_t> pad_id, const std::string& config = "") {
  ConvertOptions options;
  options.input = input;
  options.output = output;
  options.weights = WeightType::kF32;
  options.config = config;
  options.tokenizer = "none";
  options.pad_id = pad_id;
  options.threads = 1;
  return convert(options);
}

// Runs a batch through the model. `ids` or `values` is [batch][(2,)][length] of the array.
std::vector<float> run_batch(const Model& model, const std::vector<int32_t>& ids,
                             const std::vector<float>& values, size_t batch) {
  std::vector<float> out;
  const size_t length = (ids.empty() ? values.size() : ids.size()) / batch;
  for (size_t b = 0; b < batch; ++b) {
    if (model.info().output == OutputKind::kPair) {
      const Span<const TokenId> both(ids.data() + b * length, length);
      const auto row =
          read_pair(model, both.subspan(0, length / 2), both.subspan(length / 2, length / 2));
      REQUIRE_MESSAGE(row.ok(), row.status().message());
      out.insert(out.end(), row.value().begin(), row.value().end());
      continue;
    }
    SequenceInput input;
    if (ids.empty()) {
      input.values = Span<const float>(values.data() + b * length, length);
    } else {
      input.tokens = Span<const TokenId>(ids.data() + b * length, length);
    }
    const Status status =
        read_sequence(model, input, [&](size_t, size_t rows, const float* row, size_t stride) {
          out.insert(out.end(), row, row + rows * stride);
          return Status();
        });
    REQUIRE_MESSAGE(status.ok(), status.message());
  }
  return out;
}

}  // namespace

TEST_CASE("authors: parity cases as training runs give the reference's logits") {
  for (const char* name :
       {"classifier_mean", "classifier_last", "classifier_causal_glu", "classifier_pixels_dense",
        "retrieval_mean", "retrieval_cls", "lm_transformer_pre", "lm_glu_post"}) {
    CAPTURE(name);
    const golden::Case c = golden::load_case(golden::golden_dir() + "/" + name + ".json");
    const test::TemporaryFolder folder;
    write_run(c, folder.path());
    const std::string output = folder / "model.moka";
    const bool pooled = c.kind != "lm";
    const auto report =
        convert_run(folder.path(), output,
                    pooled ? std::optional<int32_t>(c.config.value("pad_id", -1)) : std::nullopt);
    REQUIRE_MESSAGE(report.ok(), report.status().message());
    const auto model = Model::open(output);
    REQUIRE_MESSAGE(model.ok(), model.status().message());
    const golden::Array& input = c.inputs.begin()->second;
    std::vector<int32_t> ids;
    std::vector<float> values;
    for (const double value : input.data) {
      if (c.inputs.count("ids") != 0) {
        ids.push_back(static_cast<int32_t>(value));
      } else {
        values.push_back(static_cast<float>(value));
      }
    }
    const std::vector<float> got = run_batch(model.value(), ids, values, input.shape[0]);
    const golden::Array& want = c.expected.at("logits");
    REQUIRE(got.size() == want.size());
    double largest = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      largest = std::max(largest, std::fabs(static_cast<double>(got[i]) - want.data[i]));
    }
    CHECK(largest <= 2e-5);
  }
}

// ---- real checkpoints ------------------------------------------------------------------------

namespace {

std::string authors_folder() {
  const std::string folder = std::string(MOKA_SOURCE_DIR) + "/../shared/checkpoints/authors";
  return std::filesystem::is_directory(folder) ? folder : "";
}

// The arrays of an .npz file whose members are stored, as numpy.savez writes it.
std::map<std::string, NpyArray> read_npz(const std::string& path) {
  const std::string bytes = test::read_file(path);
  const auto number = [&bytes](size_t at, size_t size) {
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes.at(at + i));
    return value;
  };
  std::map<std::string, NpyArray> arrays;
  for (size_t at = 0; at + 30 <= bytes.size() && number(at, 4) == 0x04034b50;) {
    REQUIRE(number(at + 8, 2) == 0);  // stored
    const size_t name_size = number(at + 26, 2), extra_size = number(at + 28, 2);
    const std::string name = bytes.substr(at + 30, name_size);
    uint64_t size = number(at + 22, 4);
    // numpy writes sizes of 64 bits, in the first extra field.
    if (size == 0xffffffff) size = number(at + 30 + name_size + 4, 8);
    const size_t data = at + 30 + name_size + extra_size;
    auto array = parse_npy(
        Span<const uint8_t>(reinterpret_cast<const uint8_t*>(bytes.data()) + data, size), name);
    REQUIRE_MESSAGE(array.ok(), array.status().message());
    arrays[name] = std::move(array).value();
    at = data + size;
  }
  return arrays;
}

void check_agreement(const std::string& folder, const std::string& weights) {
  const auto facts = nlohmann::json::parse(test::read_file(folder + "/case.json"));
  const std::string kind = facts.at("kind");
  const bool pooled_tokens = kind == "cls" || kind == "ret";
  const test::TemporaryFolder scratch;
  const std::string output = scratch / "model.moka";
  const auto report = convert_run(
      weights, output, pooled_tokens ? std::optional<int32_t>(facts.at("pad_id")) : std::nullopt,
      folder + "/config.yaml");
  REQUIRE_MESSAGE(report.ok(), report.status().message());
  const auto model = Model::open(output);
  REQUIRE_MESSAGE(model.ok(), model.status().message());

  std::map<std::string, NpyArray> arrays = read_npz(folder + "/io.npz");
  const NpyArray& x = arrays.at("x.npy");
  const auto want = arrays.at("logits.npy").to_float32();
  REQUIRE(want.ok());
  std::vector<int32_t> ids;
  std::vector<float> values;
  if (kind == "img") {
    values = x.to_float32().value();
  } else {
    ids = x.to_int32().value();
  }
  if (kind == "lm") {  // the original drops the last id
    std::vector<int32_t> fed;
    const size_t length = x.shape[1];
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i % length + 1 != length) fed.push_back(ids[i]);
    }
    ids = fed;
  }
  const std::vector<float> got = run_batch(model.value(), ids, values, x.shape[0]);
  REQUIRE(got.size() == want.value().size());
  float largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::fabs(got[i] - want.value()[i]));
  }
  CAPTURE(largest);
  CHECK(largest <= 2e-5f);
}

}  // namespace

TEST_CASE("authors: real checkpoints give the logits of the authors' code") {
  if (authors_folder().empty()) {
    MESSAGE("skipped: ../shared/checkpoints/authors is not there");
    return;
  }
  size_t checked = 0;
  for (const auto& entry : std::filesystem::directory_iterator(authors_folder())) {
    const std::string folder = entry.path().string();
    CAPTURE(folder);
    check_agreement(folder, folder + "/msgpack");
    ++checked;
    if (!std::filesystem::exists(folder + "/checkpoints")) continue;
    check_agreement(folder, folder + "/checkpoints/60");
    ++checked;
  }
  CHECK(checked == 15);
}

}  // namespace moka
