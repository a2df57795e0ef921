// Finding a checkpoint: by file, in a model's folder, in the folder of a training run.
#include <filesystem>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "doctest/doctest.h"
#include "tests/checkpoint_builder.h"
#include "tests/checkpoint_testing.h"
#include "tests/process.h"

namespace moka {
namespace {

using namespace test;  // NOLINT: the builders of bytes
namespace fs = std::filesystem;

bool has_note(const FoundCheckpoint& found, const std::string& words) {
  for (const std::string& note : found.notes) {
    if (note.find(words) != std::string::npos) return true;
  }
  return false;
}

std::string msgpack_of(float value) {
  return mp_map({{"params", mp_map({{"w", mp_ndarray({1}, "float32", raw<float>({value}))}})},
                 {"step", mp_uint(5)}});
}
std::string safetensors_of(float value) {
  return safetensors_bytes({{"w", raw_f32({1}, {value})}});
}
void write_store(const std::string& folder, float value) {
  write_ocdbt(folder, {{"w/.zarray",
                        R"({"zarr_format":2,"shape":[1],"chunks":[1],"dtype":"<f4","order":"C"})",
                        {},
                        0},
                       {"w/0", raw<float>({value}), {}, 0}});
}

// The single number of a checkpoint that open_checkpoint() finds.
float found_value(FoundCheckpoint& found) {
  REQUIRE(found.checkpoint->tensors().size() == 1);
  float value = 0;
  REQUIRE(found.checkpoint->read(0, 0, 1, &value).ok());
  return value;
}

// A training run with steps of msgpack, each holding its own number as its weight.
struct Run {
  TemporaryFolder folder;
  std::string run = folder / "outer/run";

  void add_step(const std::string& name, const std::string& loss = "") const {
    const std::string step = run + "/checkpoints/" + name;
    fs::create_directories(step + "/default");
    write_file(step + "/default/checkpoint", msgpack_of(std::stof("0" + name)));
    if (loss.empty()) return;
    fs::create_directories(step + "/metrics");
    write_file(step + "/metrics/metrics", "{\"loss\": " + loss + "}");
  }
  Result<FoundCheckpoint> open(const std::string& below = "",
                               CheckpointOptions options = {}) const {
    return open_checkpoint(run + below, options);
  }
  float value(const std::string& below = "", CheckpointOptions options = {}) const {
    auto found = open(below, options);
    REQUIRE_MESSAGE(found.ok(), found.status().message());
    return found_value(found.value());
  }
};

TEST_CASE("checkpoint forms: a file is known by its first bytes or its name") {
  const TemporaryFolder folder;
  const auto form = [&](const std::string& name, const std::string& bytes) {
    write_file(folder / name, bytes);
    auto found = open_checkpoint(folder / name, {});
    REQUIRE_MESSAGE(found.ok(), found.status().message());
    CHECK(found.value().folder == folder.path());
    CHECK(found.value().run_folder == folder.path());
    return std::string(checkpoint_form_name(found.value().checkpoint->form()));
  };
  CHECK(form("a.safetensors", safetensors_of(1)) == "safetensors");
  CHECK(form("a", safetensors_of(1)) == "safetensors");
  CHECK(form("flax_model.msgpack", msgpack_of(1)) == "msgpack");
  CHECK(form("b", msgpack_of(1)) == "msgpack");
  const std::string torch =
      std::string(MOKA_SOURCE_DIR) + "/tests/data/checkpoints/torch/training.pt";
  CHECK(form("c", read_file(torch)) == "PyTorch");
  CHECK(form("pytorch_model.bin", read_file(torch)) == "PyTorch");
  write_store(folder / "store", 4);
  auto found = open_checkpoint(folder / "store/manifest.ocdbt", {});
  REQUIRE_MESSAGE(found.ok(), found.status().message());
  CHECK(found_value(found.value()) == 4);

  write_file(folder / "d", "text of no checkpoint");
  check_message(open_checkpoint(folder / "d", {}).status(), StatusCode::kUnsupported,
                "is no checkpoint of a known form, expected safetensors");
  write_file(folder / "e.pt", "damaged");
  check_message(open_checkpoint(folder / "e.pt", {}).status(), StatusCode::kCorrupt, "zip archive");
  check_message(open_checkpoint(folder / "none", {}).status(), StatusCode::kNotFound,
                "no such file or folder");
  check_message(open_checkpoint("", {}).status(), StatusCode::kInvalidArgument, "no input");
}

TEST_CASE("checkpoint forms: a folder with one form, several, none") {
  const TemporaryFolder folder;
  check_message(open_checkpoint(folder.path()).status(), StatusCode::kNotFound,
                "has no weights, expected model.safetensors, pytorch_model.bin");
  // Without a usual name; what a trainer keeps beside is no model.
  write_file(folder / "mine.safetensors", safetensors_of(2));
  write_file(folder / "optimizer.pt", "x");
  write_file(folder / "rng_state_0.pth", "x");
  auto found = open_checkpoint(folder.path(), {});
  REQUIRE_MESSAGE(found.ok(), found.status().message());
  CHECK(found_value(found.value()) == 2);
  CHECK(found.value().config_yaml.empty());
  write_file(folder / "other.pt", "x");
  check_message(open_checkpoint(folder.path()).status(), StatusCode::kInvalidArgument,
                "has both mine.safetensors and other.pt; remove the one that is not meant");

  write_file(folder / "model.safetensors", safetensors_of(3));
  write_file(folder / "config.yaml", "L: 4\n");
  found = open_checkpoint(folder.path(), {});
  REQUIRE(found.ok());
  CHECK(found_value(found.value()) == 3);
  CHECK(found.value().config_yaml == folder / "config.yaml");
  CHECK_FALSE(found.value().step.has_value());
  for (const char* name : {"model.safetensors.index.json", "pytorch_model.bin",
                           "flax_model.msgpack", "checkpoint", "manifest.ocdbt"}) {
    write_file(folder / name, "x");
    check_message(open_checkpoint(folder.path()).status(), StatusCode::kInvalidArgument,
                  std::string("has both model.safetensors and ") + name);
    fs::remove(folder / name);
  }
  CheckpointOptions options;
  options.step = 4;
  check_message(open_checkpoint(folder.path(), options).status(), StatusCode::kInvalidArgument,
                "step 4 was asked for, but this is one checkpoint and no run with steps");
}

TEST_CASE("checkpoint forms: a run's step by wish, by loss, by age") {
  const Run run;
  run.add_step("50");
  run.add_step("100");
  run.add_step("9");
  CHECK(run.value() == 100);
  auto found = run.open();
  REQUIRE(found.ok());
  CHECK(found.value().step == uint64_t{100});
  CHECK(found.value().checkpoint->step() == uint64_t{5});
  CHECK(found.value().run_folder == run.run);
  CHECK(found.value().folder == run.run + "/checkpoints/100/default");
  CHECK(found.value().notes[0] == "step 100: the newest of 9, 50, 100; none has a stored loss");

  CheckpointOptions options;
  options.step = 9;
  CHECK(run.value("", options) == 9);
  CHECK(run.value("/checkpoints", options) == 9);
  CHECK(run.value("/checkpoints/9", options) == 9);
  options.step = 10;
  check_message(run.open("", options).status(), StatusCode::kNotFound,
                "has no complete step 10, only 9, 50, 100");
  check_message(run.open("/checkpoints/50", options).status(), StatusCode::kInvalidArgument,
                "step 10 was asked for, but this is step 50");

  run.add_step("50", "\"1.25\"");
  run.add_step("9", "1.5");
  run.add_step("7", "\"nan\"");
  found = run.open();
  REQUIRE(found.ok());
  CHECK(found_value(found.value()) == 50);
  CHECK(found.value().notes[0] ==
        "step 50: the lowest stored validation loss, 1.25, of 7, 9, 50, 100 (2 without a stored "
        "loss)");
  CHECK(has_note(found.value(), "7/metrics/metrics: has no \"loss\" that is a number"));
  run.add_step("120", "\"1.250\"");  // as good and newer
  CHECK(run.value() == 120);
}

TEST_CASE("checkpoint forms: steps that are none or not complete are passed over") {
  const Run run;
  run.add_step("60");
  fs::create_directories(run.run + "/checkpoints/70/default");
  fs::create_directories(run.run + "/checkpoints/80.orbax-checkpoint-tmp-1/default");
  auto found = run.open();
  REQUIRE_MESSAGE(found.ok(), found.status().message());
  CHECK(found_value(found.value()) == 60);
  CHECK(found.value().notes[0] == "step 60: the only one");
  CHECK(has_note(found.value(), "checkpoints/70: passed over, it holds no checkpoint"));
  CHECK(has_note(found.value(), "orbax-checkpoint-tmp-1: passed over, its name is no step number"));

  // Where one step was committed, those without the mark were not.
  run.add_step("90");
  write_file(run.run + "/checkpoints/60/commit_success.txt", "x");
  found = run.open();
  REQUIRE(found.ok());
  CHECK(found_value(found.value()) == 60);
  CHECK(has_note(found.value(), "checkpoints/90: passed over, it has no commit_success.txt"));
  fs::remove(run.run + "/checkpoints/60/commit_success.txt");
  write_file(run.run + "/checkpoints/90/_CHECKPOINT_METADATA",
             "{\"commit_timestamp_nsecs\": null}");
  CHECK(run.value() == 60);

  const Run zero;
  zero.add_step("0");
  found = zero.open();
  REQUIRE(found.ok());
  CHECK(has_note(found.value(), "step 0 is the state before training"));
  zero.add_step("00");
  check_message(zero.open().status(), StatusCode::kInvalidArgument,
                "has step 0 twice, as 0 and 00");

  const Run none;
  fs::create_directories(none.run + "/checkpoints/70");
  check_message(none.open().status(), StatusCode::kNotFound,
                "has no complete step\n  " + none.run +
                    "/checkpoints/70: passed over, it holds no checkpoint");
}

TEST_CASE("checkpoint forms: both forms of a step, other names of the item, config.yaml") {
  const Run run;
  run.add_step("60");
  const std::string step = run.run + "/checkpoints/60";
  write_store(step + "/default", 3);
  auto found = run.open();
  REQUIRE_MESSAGE(found.ok(), found.status().message());
  CHECK(found_value(found.value()) == 60);
  CHECK(has_note(found.value(), "as msgpack and as an OCDBT store; msgpack is read"));
  fs::remove(step + "/default/checkpoint");
  CHECK(run.value() == 3);

  fs::rename(step + "/default", step + "/state");
  CHECK(run.value() == 3);
  CHECK(run.value("/checkpoints/60") == 3);
  CHECK(run.value("/checkpoints/60/state") == 3);
  write_store(step + "/params", 4);
  check_message(run.open().status(), StatusCode::kNotFound, "it holds no checkpoint");
  check_message(run.open("/checkpoints/60").status(), StatusCode::kInvalidArgument,
                "has checkpoints in both params and state");
  fs::remove_all(step + "/params");

  // Up to two folders above the run; the nearest counts.
  CHECK(run.open().value().config_yaml.empty());
  write_file(run.folder / "config.yaml", "");
  CHECK(fs::equivalent(run.open().value().config_yaml, run.folder / "config.yaml"));
  write_file(run.folder / "outer/config.yaml", "");
  CHECK(fs::equivalent(run.open("/checkpoints/60/state").value().config_yaml,
                       run.folder / "outer/config.yaml"));
  write_file(run.run + "/config.yaml", "");
  CHECK(fs::equivalent(run.open("/checkpoints/60").value().config_yaml, run.run + "/config.yaml"));
}

TEST_CASE("checkpoint forms: the authors' checkpoints are found in their folders") {
  const fs::path shared = fs::path(MOKA_SOURCE_DIR) / ".." / "shared" / "checkpoints" / "authors";
  if (!fs::exists(shared)) {
    MESSAGE("skipped: the authors' checkpoints are not here");
    return;
  }
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(shared)) {
    CAPTURE(entry.path().string());
    for (const char* run : {"msgpack", "."}) {
      if (!fs::exists(entry.path() / run / "checkpoints")) continue;
      auto found = open_checkpoint((entry.path() / run).string(), {});
      CAPTURE(found.status().message());
      REQUIRE(found.ok());
      CHECK(found.value().step == uint64_t{60});
      CHECK(found.value().checkpoint->step() == uint64_t{30});
      CHECK(fs::equivalent(found.value().config_yaml, entry.path() / "config.yaml"));
      ++count;
    }
  }
  CHECK(count == 15);
}

}  // namespace
}  // namespace moka
