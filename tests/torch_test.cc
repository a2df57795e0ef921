// Files of torch.save: zip archives, the pickle in them, state dicts.
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/torch_archive.h"
#include "converter/torch_pickle.h"
#include "doctest/doctest.h"
#include "tests/checkpoint_testing.h"
#include "tests/process.h"

namespace moka {
namespace {

using namespace test;  // NOLINT: the builders of bytes

std::string fixture(const std::string& name) {
  return std::string(MOKA_SOURCE_DIR) + "/tests/data/checkpoints/torch/" + name;
}

// What make.py calls ramp(): 0.25 i - 1.
std::vector<float> ramp(size_t count) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(0.25f * static_cast<float>(i) - 1);
  return values;
}

TEST_CASE("torch: a state dict of all types and strides") {
  for (const char* name : {"state.pt", "state_protocol4.pt"}) {
    CAPTURE(name);
    auto opened = open_torch(fixture(name));
    CAPTURE(opened.status().message());
    REQUIRE(opened.ok());
    Checkpoint& checkpoint = *opened.value();
    CHECK(checkpoint.form() == CheckpointForm::kPyTorch);
    std::string names;
    for (const SourceTensor& tensor : checkpoint.tensors()) {
      names += tensor.name + " " + source_type_name(tensor.type) + tensor.shape_string() + " ";
    }
    CHECK(names ==
          "bf16 BF16[6] empty F32[0, 3] expanded F32[2, 3] f16 F16[2, 4] f32 F32[3, 4] "
          "f64 F64[4, 2, 3] ids I64[5] parameter F32[3] scalar F32[] tied F32[3, 4] "
          "transposed F32[3, 5] view F32[2, 3] ");
    CHECK(numbers_of(checkpoint, "f32") == ramp(12));
    CHECK(numbers_of(checkpoint, "f16") == ramp(8));
    CHECK(numbers_of(checkpoint, "bf16") == ramp(6));
    CHECK(numbers_of(checkpoint, "tied") == ramp(12));
    CHECK(numbers_of(checkpoint, "parameter") == ramp(3));
    CHECK(numbers_of(checkpoint, "scalar") == std::vector<float>{2.5f});
    CHECK(numbers_of(checkpoint, "empty").empty());
    CHECK(numbers_of(checkpoint, "expanded") ==
          std::vector<float>{-1, -1, -1, -0.75, -0.75, -0.75});
    const std::vector<float> square = ramp(20), wide = ramp(15), cube = ramp(24);
    const std::vector<float> transposed = numbers_of(checkpoint, "transposed");
    for (size_t r = 0; r < 3; ++r) {
      for (size_t c = 0; c < 5; ++c) CHECK(transposed[r * 5 + c] == wide[c * 3 + r]);
    }
    const std::vector<float> view = numbers_of(checkpoint, "view");
    for (size_t r = 0; r < 2; ++r) {
      for (size_t c = 0; c < 3; ++c) CHECK(view[r * 3 + c] == square[(r + 1) * 5 + c + 1]);
    }
    const std::vector<float> permuted = numbers_of(checkpoint, "f64");
    for (size_t i = 0; i < 4; ++i) {
      for (size_t j = 0; j < 6; ++j) CHECK(permuted[i * 6 + j] == cube[j * 4 + i]);
    }
    // From the middle, where the order jumps.
    std::vector<float> part(7);
    REQUIRE(checkpoint.read(10, 4, part.size(), part.data()).ok());
    CHECK(part == std::vector<float>(transposed.begin() + 4, transposed.begin() + 11));
  }
}

TEST_CASE("torch: the state dict inside of a training checkpoint") {
  auto opened = open_torch(fixture("training.pt"));
  CAPTURE(opened.status().message());
  REQUIRE(opened.ok());
  CHECK(opened.value()->step() == uint64_t{1234});
  CHECK(opened.value()->notes() == std::vector<std::string>{"the weights are under \"model\"",
                                                            "all names begin with \"module.\""});
  REQUIRE(opened.value()->tensors().size() == 2);
  CHECK(numbers_of(*opened.value(), "weight") == ramp(6));
  CHECK(numbers_of(*opened.value(), "bias") == ramp(2));
}

TEST_CASE("torch: what is no state dict is refused with the way out") {
  const StatusCode unsupported = StatusCode::kUnsupported;
  const auto fails = [&](const char* name, const std::string& message) {
    check_message(open_torch(fixture(name)).status(), unsupported, message);
  };
  fails("legacy.pt",
        "is a pickle without a zip archive, as torch.save wrote it before PyTorch 1.6");
  fails("legacy.pt", "save its state_dict() again with torch.save or safetensors.torch.save_file");
  fails("whole_module.pt",
        "it is an object of \"torch.nn.modules.linear.Linear\", expected a state dict");
  fails("sparse.pt", "tensor \"x\" is made by \"torch._utils._rebuild_sparse_tensor\"");
  fails("complex.pt", "tensor \"x\": is of the number type \"torch.ComplexFloatStorage\"");
}

// ---- pickles made by hand ----

std::string text(const std::string& words) { return "X" + little_endian(words.size(), 4) + words; }
std::string integer(int64_t value) {
  return std::string("\x8a\x08") + little_endian(static_cast<uint64_t>(value), 8);
}
std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
std::string tuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const std::string& item : items) out += item;
  return out + "t";
}
std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string out = "}(";
  for (const auto& [key, value] : items) out += text(key) + value;
  return out + "u";
}
std::string storage(const std::string& key, const std::string& type = "FloatStorage") {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(4)}) + "Q";
}
std::string tensor(const std::string& from, int64_t offset, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& strides) {
  std::vector<std::string> sizes, steps;
  for (const int64_t extent : shape) sizes.push_back(integer(extent));
  for (const int64_t step : strides) steps.push_back(integer(step));
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple({from, integer(offset), tuple(sizes), tuple(steps), "\x89",
                global("collections", "OrderedDict") + ")R"}) +
         "R";
}
std::string program(const std::string& value) { return "\x80\x02" + value + "."; }

std::string archive(const std::string& pickle, bool zip64 = false) {
  return zip({{"a/data.pkl", pickle}, {"a/data/0", raw<float>({1, 2, 3, 4})}}, zip64);
}

Status status_of(const std::string& bytes) {
  const TemporaryFolder folder;
  write_file(folder / "x.pt", bytes);
  return open_torch(folder / "x.pt").status();
}
Status run(const std::string& value) { return status_of(archive(program(value))); }

TEST_CASE("torch: archives of both kinds of zip; no dict but the chosen one is understood") {
  const TemporaryFolder folder;
  const std::string good = tensor(storage("0"), 1, {3}, {1});
  const std::string foreign =
      global("os", "system") + tuple({text("echo never run")}) + "R" + "}" + "b";
  const std::string value = dict(
      {{"first", foreign},
       {"state_dict", dict({{"_orig_mod.module.w", good}, {"_orig_mod.module.n", integer(3)}})},
       {"model", dict({{"w", good}})},
       {"global_step", integer(7)}});
  for (const bool zip64 : {false, true}) {
    write_file(folder / "x.pt", archive(program(value), zip64));
    auto opened = open_torch(folder / "x.pt");
    CAPTURE(opened.status().message());
    REQUIRE(opened.ok());
    CHECK(numbers_of(*opened.value(), "w") == std::vector<float>{2, 3, 4});
    CHECK(opened.value()->step() == uint64_t{7});
    REQUIRE(opened.value()->notes().size() == 4);
    CHECK(opened.value()->notes()[0] ==
          "the weights under \"state_dict\" are taken; there is also \"model\"");
    CHECK(opened.value()->notes()[2] ==
          "\"_orig_mod.module.n\" is a number and no tensor; it was passed over");
    CHECK(opened.value()->notes()[3] == "all names begin with \"_orig_mod.module.\"");
  }
}

TEST_CASE("torch: functions are never called, and refused by name where a weight should be") {
  const auto made_by = [](const std::string& module, const std::string& name) {
    return global(module, name) + tuple({text("x")}) + "R";
  };
  check_message(
      run(dict({{"w", tensor(storage("0"), 0, {4}, {1})}, {"evil", made_by("os", "system")}})),
      StatusCode::kUnsupported, "tensor \"evil\" is made by \"os.system\"");
  check_message(run(made_by("builtins", "eval")), StatusCode::kUnsupported,
                "it is an object of \"builtins.eval\", expected a state dict");
  check_message(run(dict({{"model", made_by("my", "Net")}})), StatusCode::kUnsupported,
                "the value under \"model\" is an object of \"my.Net\"");
  check_message(run(dict({{"net", dict({})}, {"lr", integer(1)}})), StatusCode::kNotFound,
                "it holds no tensors but \"net\", \"lr\"; expected a state dict");
  check_message(run("]"), StatusCode::kUnsupported, "it is a list, expected a state dict");
}

TEST_CASE("torch: tensors that do not fit their storage are refused") {
  const auto one = [](int64_t offset, const std::vector<int64_t>& shape,
                      const std::vector<int64_t>& strides) {
    return run(dict({{"w", tensor(storage("0"), offset, shape, strides)}}));
  };
  const StatusCode corrupt = StatusCode::kCorrupt;
  const char* beyond = "reaches beyond its storage \"0\" of 16 bytes";
  CHECK(one(0, {4}, {1}).ok());
  CHECK(one(3, {1, 1}, {99, 99}).ok());
  CHECK(one(0, {2, 2}, {1, 2}).ok());
  CHECK(one(99, {0}, {1}).ok());
  check_message(one(1, {4}, {1}), corrupt, beyond);
  check_message(one(4, {1}, {1}), corrupt, beyond);
  check_message(one(0, {2, 2}, {3, 1}), corrupt, beyond);
  check_message(one(0, {5}, {1}), corrupt, beyond);
  check_message(one(int64_t{1} << 62, {2}, {int64_t{1} << 62}), corrupt, beyond);
  check_message(one(0, {2, 2, 2}, {int64_t{1} << 62, int64_t{1} << 62, int64_t{1} << 62}), corrupt,
                beyond);
  check_message(one(0, {int64_t{1} << 40, int64_t{1} << 40}, {0, 0}), corrupt,
                "has more than 2^48 numbers");
  check_message(one(-1, {1}, {1}), StatusCode::kUnsupported, "is made by");
  check_message(one(0, {-1}, {1}), StatusCode::kUnsupported, "is made by");
  check_message(one(0, {1, 1}, {1}), StatusCode::kUnsupported, "is made by");
  check_message(run(dict({{"w", tensor(storage("9"), 0, {1}, {1})}})), StatusCode::kNotFound,
                "has no member \"a/data/9\"");
}

TEST_CASE("torch: damaged pickles are refused by place") {
  const StatusCode corrupt = StatusCode::kCorrupt, unsupported = StatusCode::kUnsupported;
  const auto fails = [](const std::string& pickle, StatusCode code, const std::string& message) {
    check_message(Pickle::parse({pickle.begin(), pickle.end()}, "x").status(), code, message);
  };
  fails("", corrupt, "x: the pickle at byte 0 is cut short");
  fails("N", corrupt, "is cut short");
  fails(".", corrupt, "takes a value from an empty stack");
  fails("(.", corrupt, "takes a value from an empty stack");
  fails("Nt.", corrupt, "looks for a mark that was not set");
  fails("h\x01.", corrupt, "asks for a value that was not stored");
  fails("Na.", corrupt, "takes a value from an empty stack");
  fails("NNa.", corrupt, "adds items to what is no list or dict");
  fails("}(Nu.", corrupt, "has a key without value");
  fails("NQ.", corrupt, "has a reference that is no storage of torch");
  fails(std::string("X\xff\xff\xff\xff", 5), corrupt, "is cut short");
  fails("c" + std::string(300, 'm') + "\nf\n.", corrupt, "names something too long");
  fails("cmodule", corrupt, "is cut short");
  fails("\x80\x01N.", unsupported, "has pickle protocol 1, expected 2 to 5");
  fails("I1\n.", unsupported, "has the instruction 73, which torch.save does not write");
  fails("\x82\x01.", unsupported, "has the instruction 130");
  fails("N" + std::string((size_t{1} << 20) + 1, '2') + ".", StatusCode::kOutOfRange,
        "the pickle's stack has more than 1048576 values");
  fails(std::string((size_t{1} << 20) + 1, 'N') + ".", StatusCode::kOutOfRange,
        "the pickle has more than 1048576 values");
  // A list that holds itself is a value like others.
  const std::string loop =
      "]q\x01h\x01"
      "a.";
  CHECK(Pickle::parse({loop.begin(), loop.end()}, "x").ok());

  const std::string whole = program(dict({{"w", tensor(storage("0"), 0, {4}, {1})}}));
  for (size_t size = 0; size < whole.size(); ++size) {
    CHECK(status_of(archive(whole.substr(0, size))).code() == corrupt);
  }
}

TEST_CASE("torch: archives that are none, or hold other things") {
  const std::string pickle = program(dict({{"w", tensor(storage("0"), 0, {4}, {1})}}));
  const StatusCode corrupt = StatusCode::kCorrupt, unsupported = StatusCode::kUnsupported;
  const std::string data = raw<float>({1, 2, 3, 4});
  check_message(status_of(""), corrupt, "is too short for a zip archive");
  check_message(status_of(std::string(100, 'x')), corrupt, "has no end of a zip archive");
  check_message(status_of(zip({{"x.txt", "hello"}})), unsupported, "without data.pkl");
  check_message(status_of(zip({{"a/data.pkl", pickle}, {"a/data/0", data, 8}})), unsupported,
                "the member \"a/data/0\" is compressed or encrypted");
  check_message(status_of(zip({{"a/data.pkl", pickle}, {"a/data.pkl", pickle}})), corrupt,
                "has two members of the name \"a/data.pkl\"");
  check_message(status_of(zip({{"a/data.pkl", pickle}, {"a/constants.pkl", ""}})), unsupported,
                "is a TorchScript program");
  check_message(
      status_of(zip({{"a/data.pkl", pickle}, {"a/data/0", data}, {"a/byteorder", "big"}})),
      unsupported, "its byte order is \"big\", expected \"little\"");
  CHECK(
      status_of(zip({{"a/data.pkl", pickle}, {"a/data/0", data}, {"a/byteorder", "little"}})).ok());

  // Cut short or with any byte changed: an error or a sound checkpoint, never a read outside.
  for (const bool zip64 : {false, true}) {
    const std::string whole = archive(pickle, zip64);
    for (size_t i = 0; i < whole.size(); ++i) {
      CHECK_FALSE(status_of(whole.substr(0, i)).ok());
      std::string bad = whole;
      bad[i] = static_cast<char>(bad[i] ^ 0x81);
      const Status status = status_of(bad);
      CHECK((status.ok() || !status.message().empty()));
    }
  }
}

TEST_CASE("torch: an index joins archives") {
  const TemporaryFolder folder;
  const auto shard = [](const std::string& name) {
    return archive(program(dict({{name, tensor(storage("0"), 0, {4}, {1})}})));
  };
  write_file(folder / "one.bin", shard("module.b"));
  write_file(folder / "two.bin", shard("module.a"));
  const std::string index = folder / "pytorch_model.bin.index.json";
  write_file(index, R"({"weight_map":{"module.a":"two.bin","module.b":"one.bin"}})");
  auto opened = open_checkpoint(folder.path());
  CAPTURE(opened.status().message());
  REQUIRE(opened.ok());
  CHECK(opened.value()->form() == CheckpointForm::kPyTorch);
  CHECK(opened.value()->files().size() == 3);
  CHECK(opened.value()->tensors().size() == 2);
  CHECK(numbers_of(*opened.value(), "a") == std::vector<float>{1, 2, 3, 4});
  CHECK(opened.value()->notes() == std::vector<std::string>{"all names begin with \"module.\""});
  write_file(index, R"({"weight_map":{"module.a":"one.bin"}})");
  check_message(open_checkpoint(folder.path()).status(), StatusCode::kCorrupt,
                "\"module.a\" is not in \"one.bin\"");
}

}  // namespace
}  // namespace moka
