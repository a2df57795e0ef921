// The tensor stores that Orbax writes: OCDBT, zarr arrays, Zstandard.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/crc32c.h"
#include "converter/key_value_store.h"
#include "converter/zstd_stream.h"
#include "doctest/doctest.h"
#include "tests/checkpoint_testing.h"
#include "tests/process.h"

namespace moka {
namespace {

using namespace test;  // NOLINT: the builders of bytes
namespace fs = std::filesystem;

const std::string& fixtures() {
  static const std::string kPath = std::string(MOKA_SOURCE_DIR) + "/tests/data/checkpoints";
  return kPath;
}

std::string value_of(KeyValueStore& store, const std::string& key) {
  auto size = store.size(key);
  REQUIRE(size.ok());
  if (!size.value()) return "(none)";
  std::string value(static_cast<size_t>(*size.value()), '\0');
  const Status status = store.read(key, 0, reinterpret_cast<uint8_t*>(value.data()), value.size());
  CAPTURE(status.message());
  CHECK(status.ok());
  return value;
}

// Tensors of both, bit for bit.
void check_equal(Checkpoint& a, Checkpoint& b) {
  REQUIRE(a.tensors().size() == b.tensors().size());
  CHECK(a.step() == b.step());
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    const SourceTensor &x = a.tensors()[i], &y = b.tensors()[i];
    CAPTURE(x.name);
    CHECK(x.name == y.name);
    CHECK(x.shape == y.shape);
    CHECK(x.type == y.type);
    const std::vector<float> values = numbers_of(a, x.name);
    CHECK(raw(values) == raw(numbers_of(b, x.name)));
    // A range from the middle is that of the whole.
    const size_t first = values.size() / 3, count = values.size() / 2;
    std::vector<float> middle(count);
    REQUIRE(a.read(i, first, count, middle.data()).ok());
    CHECK(raw(middle) == raw(values).substr(4 * first, 4 * count));
  }
}

TEST_CASE("ocdbt: a checkpoint that Orbax wrote is that which msgpack holds") {
  auto store = open_orbax(fixtures() + "/orbax/default");
  CAPTURE(store.status().message());
  REQUIRE(store.ok());
  auto aggregate = open_flax_msgpack(fixtures() + "/orbax/checkpoint.msgpack");
  REQUIRE(aggregate.ok());
  CHECK(store.value()->form() == CheckpointForm::kOrbax);
  CHECK(store.value()->tensors().size() == 9);
  CHECK(store.value()->step() == uint64_t{30});
  check_equal(*store.value(), *aggregate.value());
}

TEST_CASE("ocdbt: both forms of the authors' checkpoints hold the same bits") {
  const fs::path shared = fs::path(MOKA_SOURCE_DIR) / ".." / "shared" / "checkpoints" / "authors";
  if (!fs::exists(shared)) {
    MESSAGE("skipped: the authors' checkpoints are not here");
    return;
  }
  for (const char* name : {"lm-prenorm", "classify-mean"}) {
    CAPTURE(name);
    auto store = open_orbax((shared / name / "checkpoints/60/default").string());
    CAPTURE(store.status().message());
    REQUIRE(store.ok());
    auto aggregate =
        open_flax_msgpack((shared / name / "msgpack/checkpoints/60/default/checkpoint").string());
    REQUIRE(aggregate.ok());
    CHECK(store.value()->tensors().size() >= 27);
    check_equal(*store.value(), *aggregate.value());
  }
}

TEST_CASE("ocdbt: checksums and unpacking agree with published values") {
  const std::string digits = "123456789";
  CHECK(crc32c(reinterpret_cast<const uint8_t*>(digits.data()), digits.size()) == 0xe3069283u);
  CHECK(crc32c(nullptr, 0) == 0);

  std::string text;
  for (int i = 0; i < 40000; ++i) text += "line " + std::to_string(i) + "\n";
  const std::string frame = zstd_frame(text);
  const auto decode = [](const std::string& bytes, size_t max) {
    return zstd_decode(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), max, "x");
  };
  auto all = decode(frame, text.size());
  REQUIRE(all.ok());
  CHECK(std::string(all.value().begin(), all.value().end()) == text);
  check_message(decode(frame, text.size() - 1).status(), StatusCode::kOutOfRange,
                "x: holds more than " + std::to_string(text.size() - 1) + " bytes");
  check_message(decode(frame.substr(0, frame.size() - 1), text.size()).status(),
                StatusCode::kCorrupt, "Zstandard data is cut short");
  check_message(decode("no frame of the kind", 100).status(), StatusCode::kCorrupt,
                "is damaged Zstandard data after 0 bytes");
  CHECK(decode("", 10).value().empty());
}

// Two leaves below an interior node: params.a/0, params.a/1 and params.b, params.bzz.
struct Tree {
  TemporaryFolder folder;
  std::string left, right, root;

  Tree() {
    fs::create_directories(folder / "d");
    write_file(folder / "d/data", "....outside value");
    // Keys of a leaf lack what its parent says that all have.
    left = ocdbt_envelope(kOcdbtNode, ocdbt_leaf_body({"d/data"}, {{"a/0", "one", {}, 0},
                                                                   {"a/1", "", {0, 4, 13}, 0}}));
    const std::string body = ocdbt_leaf_body({}, {{"", "empty key", {}, 0}, {"zz", "", {}, 0}});
    right = ocdbt_envelope(kOcdbtNode, zstd_frame(body), 1);
    write_file(folder / "d/nodes", left + right);
    root = ocdbt_envelope(
        kOcdbtNode, ocdbt_interior_body({"d/data", "d/nodes"}, 1,
                                        {{"params.a/", "", {1, 0, left.size()}, 7},
                                         {"params.b", "", {1, left.size(), right.size()}, 8}}));
    write_file(folder / "d/root", root);
    write_manifest(ocdbt_manifest_body({"d/root"}, 1, {0, 0, root.size()}));
  }
  void write_manifest(const std::string& body) const {
    write_file(folder / "manifest.ocdbt", ocdbt_envelope(kOcdbtManifest, body));
  }
  Status status(const std::vector<std::string>& prefixes = {}) const {
    return open_ocdbt(folder.path(), prefixes).status();
  }
};

TEST_CASE("ocdbt: a tree of several levels, values inside and outside") {
  const Tree tree;
  auto store = open_ocdbt(tree.folder.path(), {});
  CAPTURE(store.status().message());
  REQUIRE(store.ok());
  const std::vector<std::string> keys = {"params.a/0", "params.a/1", "params.b", "params.bzz"};
  CHECK(store.value()->keys("") == keys);
  CHECK(store.value()->keys("zz") == std::vector<std::string>{"params.bzz"});
  CHECK(value_of(*store.value(), "params.a/0") == "one");
  CHECK(value_of(*store.value(), "params.a/1") == "outside value");
  CHECK(value_of(*store.value(), "params.b") == "empty key");
  CHECK(value_of(*store.value(), "params.bzz").empty());
  CHECK(value_of(*store.value(), "params.c") == "(none)");
  CHECK(store.value()->files() ==
        std::vector<std::string>{tree.folder / "manifest.ocdbt", tree.folder / "d/root",
                                 tree.folder / "d/nodes", tree.folder / "d/data"});

  // With a prefix the other part of the tree is not even read.
  write_file(tree.folder / "d/nodes", tree.left + std::string(tree.right.size(), 'x'));
  CHECK(tree.status().code() == StatusCode::kCorrupt);
  auto part = open_ocdbt(tree.folder.path(), {"params.a"});
  REQUIRE(part.ok());
  CHECK(part.value()->keys("") == std::vector<std::string>{"params.a/0", "params.a/1"});
}

TEST_CASE("ocdbt: versions in numbered manifests; an empty store") {
  const Tree tree;
  const std::string body = ocdbt_manifest_body({"d/root"}, 1, {0, 0, tree.root.size()});
  tree.write_manifest(ocdbt_manifest_body({}, 0, {}, 1));
  check_message(tree.status(), StatusCode::kNotFound, "but there is none beside it");
  write_file(tree.folder / "manifest.0000000000000009", "an older one");
  write_file(tree.folder / "manifest.000000000000000a", ocdbt_envelope(kOcdbtManifest, body));
  write_file(tree.folder / "manifest.zzz", "another file");
  auto store = open_ocdbt(tree.folder.path(), {});
  CAPTURE(store.status().message());
  REQUIRE(store.ok());
  CHECK(store.value()->keys("").size() == 4);

  const uint64_t none = ~uint64_t{0};
  tree.write_manifest(ocdbt_manifest_body({"d/root"}, 0, {0, none, none}));
  auto empty = open_ocdbt(tree.folder.path(), {});
  REQUIRE(empty.ok());
  CHECK(empty.value()->keys("").empty());
}

TEST_CASE("ocdbt: damage is found, wherever it is") {
  const Tree tree;
  for (const char* name : {"manifest.ocdbt", "d/root", "d/nodes"}) {
    const std::string path = tree.folder / name;
    const std::string good = read_file(path);
    for (size_t i = 0; i < good.size(); ++i) {
      CAPTURE(name);
      CAPTURE(i);
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 0x20);
      write_file(path, bad);
      CHECK(tree.status().code() == StatusCode::kCorrupt);
      write_file(path, good.substr(0, i));
      CHECK(tree.status().code() == StatusCode::kCorrupt);
    }
    write_file(path, good);
    REQUIRE(tree.status().ok());
  }
  write_file(tree.folder / "d/data", "....outside");
  auto store = open_ocdbt(tree.folder.path(), {});
  REQUIRE(store.ok());
  uint8_t byte = 0;
  check_message(store.value()->read("params.a/1", 0, &byte, 1), StatusCode::kCorrupt,
                "is 11 bytes long, but the value of \"params.a/1\" is said to be 13 bytes at 4");
}

TEST_CASE("ocdbt: stores that would lead astray are refused") {
  const Tree tree;
  const auto manifest = [&](const std::vector<std::string>& files, uint8_t height,
                            const OcdbtPlace& root) {
    tree.write_manifest(ocdbt_manifest_body(files, height, root));
    return tree.status();
  };
  const StatusCode corrupt = StatusCode::kCorrupt;
  check_message(manifest({"../d/root"}, 1, {0, 0, 1}), corrupt, "has a damaged table of files");
  check_message(manifest({"/etc/passwd"}, 1, {0, 0, 1}), corrupt, "has a damaged table of files");
  check_message(manifest({"d/root"}, 1, {1, 0, 1}), corrupt, "has a damaged list of versions");
  check_message(manifest({"d/none"}, 1, {0, 0, 1}), StatusCode::kNotFound, "d/none");
  check_message(manifest({"d/root"}, 1, {0, 5, tree.root.size()}), corrupt, "bytes long, but");
  check_message(manifest({"d/root"}, 2, {0, 0, tree.root.size()}), corrupt,
                "has height 1, expected 2");
  check_message(manifest({"d/root"}, 200, {0, 0, tree.root.size()}), corrupt,
                "has a tree of height 200");
  write_file(tree.folder / "manifest.ocdbt", ocdbt_envelope(kOcdbtManifest, "", 0, 1));
  check_message(tree.status(), StatusCode::kUnsupported, "has format version 1, expected 0");
  write_file(tree.folder / "manifest.ocdbt", ocdbt_envelope(kOcdbtManifest, "", 2));
  check_message(tree.status(), StatusCode::kUnsupported, "is packed by method 2");
  write_file(tree.folder / "manifest.ocdbt", ocdbt_envelope(kOcdbtNode, "xx"));
  check_message(tree.status(), corrupt, "is no manifest of OCDBT");

  // A node that is its own child: the heights cannot agree.
  std::string loop =
      ocdbt_envelope(kOcdbtNode, ocdbt_interior_body({"d/root"}, 1, {{"a", "", {0, 0, 75}, 0}}));
  write_file(tree.folder / "d/root", loop);
  check_message(manifest({"d/root"}, 1, {0, 0, loop.size()}), corrupt, "");
  // Keys that do not ascend, within a node and across nodes.
  const auto leaf = [&](const std::vector<OcdbtEntry>& entries) {
    write_ocdbt(tree.folder.path(), entries);
    return tree.status();
  };
  CHECK(leaf({{"a", "1", {}, 0}, {"b", "2", {}, 0}}).ok());
  check_message(leaf({{"b", "1", {}, 0}, {"a", "2", {}, 0}}), corrupt, "has damaged keys");
  check_message(leaf({{"a", "1", {}, 0}, {"a", "2", {}, 0}}), corrupt, "has damaged keys");
  check_message(leaf({}), corrupt, "is a tree node without entries");
}

std::string zarray(const std::string& shape, const std::string& chunks, const std::string& more) {
  return "{\"zarr_format\":2,\"shape\":" + shape + ",\"chunks\":" + chunks +
         ",\"dtype\":\"<f4\",\"order\":\"C\",\"filters\":null" + more + "}";
}

TEST_CASE("orbax: arrays in folders, names from the store or from _METADATA") {
  const TemporaryFolder folder;
  const auto add = [&](const std::string& name, const std::vector<float>& values) {
    fs::create_directories(folder / name);
    write_file(folder / (name + "/.zarray"), zarray("[" + std::to_string(values.size()) + "]",
                                                    "[" + std::to_string(values.size()) + "]", ""));
    write_file(folder / (name + "/0"), raw(values));
  };
  add("model.params.Dense_0.bias", {1, 2});
  add("model.batch_stats.BatchNorm_0.mean", {3});
  add("model.opt_state.0.mu", {4});
  auto opened = open_orbax(folder.path());
  CAPTURE(opened.status().message());
  REQUIRE(opened.ok());
  REQUIRE(opened.value()->tensors().size() == 2);
  CHECK(numbers_of(*opened.value(), "batch_stats/BatchNorm_0/mean") == std::vector<float>{3});
  CHECK(numbers_of(*opened.value(), "params/Dense_0/bias") == std::vector<float>{1, 2});

  // Names of the tree may hold dots; the store's cannot tell.
  const auto leaf = [](const std::string& keys, const std::string& more) {
    return "{\"key_metadata\":[" + keys + "],\"value_metadata\":{\"value_type\":\"jax.Array\"" +
           more + "}}";
  };
  write_file(folder / "_METADATA",
             "{\"tree_metadata\":{\"a\":" + leaf(R"({"key":"Dense_0.x"},{"key":"bias"})", "") +
                 ",\"b\":" + leaf(R"({"key":"gone"})", ",\"skip_deserialize\":true") + "}}");
  add("Dense_0.x.bias", {5});
  opened = open_orbax(folder.path());
  CAPTURE(opened.status().message());
  REQUIRE(opened.ok());
  CHECK(numbers_of(*opened.value(), "params/Dense_0.x/bias") == std::vector<float>{5});

  write_file(folder / "_METADATA",
             "{\"tree_metadata\":{\"a\":" + leaf(R"({"key":"../../etc"})", "") + "}}");
  check_message(open_orbax(folder.path()).status(), StatusCode::kCorrupt, "leads outside of it");
  write_file(folder / "_METADATA",
             "{\"tree_metadata\":{\"a\":" + leaf(R"({"key":"missing"})", "") + "}}");
  check_message(open_orbax(folder.path()).status(), StatusCode::kNotFound,
                "array \"missing\" is not in the store");
  write_file(folder / "_METADATA", "{}");
  check_message(open_orbax(folder.path()).status(), StatusCode::kCorrupt,
                "tree_metadata is missing");
}

TEST_CASE("orbax: leaves of msgpack that lie in a store beside the file") {
  const TemporaryFolder folder;
  write_ocdbt(
      folder.path(),
      {{"params.w/.zarray", zarray("[2]", "[2]", ",\"compressor\":{\"id\":\"zstd\"}"), {}, 0},
       {"params.w/0", zstd_frame(raw<float>({7, 8})), {}, 0}});
  const std::string inside = mp_ndarray({1}, "float32", raw<float>({1}));
  write_file(
      folder / "checkpoint",
      mp_map({{"params", mp_map({{"b", inside}, {"w", mp_text("PLACEHOLDER://params.w")}})}}));
  auto opened = open_flax_msgpack(folder / "checkpoint");
  CAPTURE(opened.status().message());
  REQUIRE(opened.ok());
  CHECK(numbers_of(*opened.value(), "params/b") == std::vector<float>{1});
  CHECK(numbers_of(*opened.value(), "params/w") == std::vector<float>{7, 8});
  CHECK(opened.value()->files().size() == 3);
  write_file(folder / "checkpoint",
             mp_map({{"params", mp_map({{"w", mp_text("PLACEHOLDER://params.v")}})}}));
  check_message(open_flax_msgpack(folder / "checkpoint").status(), StatusCode::kNotFound,
                "array \"params.v\" is not in the store");
}

}  // namespace
}  // namespace moka
