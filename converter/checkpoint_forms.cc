// Which form a checkpoint has: by the names in a folder, or by the first bytes of a file.
#include <algorithm>
#include <utility>

#include "converter/checkpoint.h"
#include "converter/file.h"
#include "converter/json.h"
#include "converter/training_run.h"

namespace moka {
namespace {

using Opened = Result<std::unique_ptr<Checkpoint>>;

// What holds weights, by its name in a folder. A folder with two of them is refused.
constexpr const char* kWeightFiles[] = {
    "model.safetensors",  "model.safetensors.index.json",
    "pytorch_model.bin",  "pytorch_model.bin.index.json",
    "model.pt",           "model.pth",
    "flax_model.msgpack", "checkpoint",
};
constexpr const char* kManifest = "manifest.ocdbt";

// Files of trainers that look like weights and are none.
constexpr const char* kTrainerFiles[] = {"optimizer.pt",  "scheduler.pt",      "scaler.pt",
                                         "rng_state.pth", "training_args.bin", "optimizer.bin",
                                         "scheduler.bin"};

bool ends_with(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

bool is_file(const std::string& path) { return path_exists(path) && !is_folder(path); }

// "a/.." also where the path's own words do not tell the folder above.
std::string folder_above(const std::string& path) {
  const std::string name = base_name(path);
  if (name.empty() || name == "." || name == ".." || name == "/") return join_path(path, "..");
  return folder_of(path.substr(0, path.find_last_not_of('/') + 1));
}

Opened open_file(const std::string& path) {
  if (ends_with(path, ".index.json")) return open_checkpoint_index(path);
  if (base_name(path) == kManifest) return open_orbax(folder_of(path));
  MOKA_ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
  uint8_t head[9] = {};
  const auto count = static_cast<size_t>(std::min<uint64_t>(sizeof head, file.size()));
  MOKA_RETURN_IF_ERROR(file.read(0, head, count));
  if (ends_with(path, ".safetensors")) return open_safetensors(path);
  if (head[0] == 'P' && head[1] == 'K') return open_torch(path);
  if (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5) return open_torch(path);  // a bare pickle
  // By name, so that the reader tells what is wrong with a damaged file.
  for (const char* suffix : {".pt", ".pth", ".bin", ".ckpt"}) {
    if (ends_with(path, suffix)) return open_torch(path);
  }
  const bool map = (head[0] >= 0x80 && head[0] <= 0x8f) || head[0] == 0xde || head[0] == 0xdf;
  if (ends_with(path, ".msgpack") || base_name(path) == "checkpoint" || (map && count > 1)) {
    return open_flax_msgpack(path);
  }
  if (head[8] == '{') return open_safetensors(path);
  return Status(StatusCode::kUnsupported,
                path +
                    ": is no checkpoint of a known form, expected safetensors, a zip archive of "
                    "torch.save, or msgpack of Flax");
}

Status both(const std::string& folder, const std::string& a, const std::string& b) {
  return Status(StatusCode::kInvalidArgument,
                folder + ": has both " + a + " and " + b +
                    "; remove the one that is not meant, or name the other instead of the folder");
}

// Names of the files in `folder` that hold weights.
std::vector<std::string> weight_files(const std::string& folder) {
  std::vector<std::string> found;
  for (const char* name : kWeightFiles) {
    if (is_file(join_path(folder, name))) found.push_back(name);
  }
  if (!found.empty()) return found;
  // Without a usual name: what ends as one.
  for (const std::string& name : folder_entries(folder)) {
    const bool trainer = std::any_of(std::begin(kTrainerFiles), std::end(kTrainerFiles),
                                     [&](const char* other) { return name == other; }) ||
                         name.rfind("rng_state", 0) == 0;
    if (trainer || !is_file(join_path(folder, name))) continue;
    for (const char* suffix : {".safetensors", ".safetensors.index.json", ".pt", ".pth", ".ckpt",
                               ".bin.index.json", ".msgpack"}) {
      if (ends_with(name, suffix)) found.push_back(name);
    }
  }
  return found;
}

// Opens what lies in the folder itself. Null: nothing there.
Opened open_in_folder(const std::string& folder, std::vector<std::string>* notes) {
  const std::vector<std::string> files = weight_files(folder);
  const bool store = is_file(join_path(folder, kManifest));
  if (files.size() > 1) return both(folder, files[0], files[1]);
  if (files.size() == 1 && store) {
    // Orbax has written both side by side: the tree, and the arrays that it does not hold itself.
    if (files[0] != "checkpoint") return both(folder, files[0], kManifest);
    notes->push_back("the step is there as msgpack and as an OCDBT store; msgpack is read");
  }
  if (files.size() == 1) return open_file(join_path(folder, files[0]));
  if (store || path_exists(join_path(folder, "_METADATA"))) return open_orbax(folder);
  return std::unique_ptr<Checkpoint>();
}

// The folder of steps that `path` is or has; empty when there is none.
std::string steps_folder(const std::string& path) {
  std::string inside = join_path(path, "checkpoints");
  if (is_folder(inside)) return inside;
  return has_steps(path) ? path : "";
}

// Forms that training writes step by step. A model's folder that happens to have a number for its
// name is none of a run.
bool is_of_run(const Checkpoint& checkpoint) {
  return checkpoint.form() == CheckpointForm::kMsgpack ||
         checkpoint.form() == CheckpointForm::kOrbax;
}

// From the folder of weights up to the run: the step and the run's folder, as their names tell.
void place_in_run(FoundCheckpoint* found) {
  if (!is_of_run(*found->checkpoint)) return;
  std::string step = found->folder;
  if (!step_number(folder_name(step))) step = folder_above(step);
  if (!step_number(folder_name(step))) return;
  found->step = step_number(folder_name(step));
  const std::string steps = folder_above(step);
  found->run_folder = folder_name(steps) == "checkpoints" ? folder_above(steps) : steps;
}

std::string find_config_yaml(const FoundCheckpoint& found) {
  // Only a training run is searched upwards: the folder above a model's has nothing to do with it.
  std::vector<std::string> folders = {found.folder};
  if (is_of_run(*found.checkpoint)) {
    std::string folder = found.run_folder;
    for (int i = 0; i < 3; ++i, folder = folder_above(folder)) folders.push_back(folder);
  }
  for (const std::string& folder : folders) {
    std::string path = join_path(folder, "config.yaml");
    if (is_file(path)) return path;
  }
  return "";
}

Status open_folder(const std::string& path, const CheckpointOptions& options,
                   FoundCheckpoint* found) {
  found->folder = path;
  MOKA_ASSIGN_OR_RETURN(found->checkpoint, open_in_folder(path, &found->notes));
  if (found->checkpoint != nullptr) return Status();

  const auto step = weights_folder(path);
  if (step.ok()) {
    found->folder = step.value();
  } else if (step.status().code() != StatusCode::kNotFound) {
    return step.status();
  } else {
    const std::string steps = steps_folder(path);
    if (steps.empty()) {
      return Status(StatusCode::kNotFound,
                    path +
                        ": has no weights, expected model.safetensors, pytorch_model.bin (or "
                        "their .index.json), a .pt file, flax_model.msgpack, or a training run "
                        "with checkpoints/<step>/default");
    }
    MOKA_ASSIGN_OR_RETURN(ChosenStep chosen, choose_step(steps, options.step));
    found->notes = std::move(chosen.notes);
    MOKA_ASSIGN_OR_RETURN(found->folder, weights_folder(chosen.folder));
  }
  MOKA_ASSIGN_OR_RETURN(found->checkpoint, open_in_folder(found->folder, &found->notes));
  if (found->checkpoint == nullptr) {
    return Status(StatusCode::kNotFound, found->folder + ": has no weights");
  }
  return Status();
}

}  // namespace

Result<FoundCheckpoint> open_checkpoint(const std::string& path, const CheckpointOptions& options) {
  if (path.empty()) {
    return Status(StatusCode::kInvalidArgument, "no input: expected a checkpoint's file or folder");
  }
  FoundCheckpoint found;
  if (is_folder(path)) {
    MOKA_RETURN_IF_ERROR(open_folder(path, options, &found));
  } else if (path_exists(path)) {
    found.folder = folder_of(path);
    MOKA_ASSIGN_OR_RETURN(found.checkpoint, open_file(path));
  } else {
    return Status(StatusCode::kNotFound, path + ": no such file or folder");
  }
  found.run_folder = found.folder;
  place_in_run(&found);
  if (!found.step) found.step = found.checkpoint->step();
  if (options.step && found.step != options.step) {
    return Status(StatusCode::kInvalidArgument,
                  path + ": step " + std::to_string(*options.step) +
                      " was asked for, but this is " +
                      (found.step ? "step " + std::to_string(*found.step)
                                  : std::string("one checkpoint and no run with steps")));
  }
  found.config_yaml = find_config_yaml(found);
  const std::vector<std::string>& notes = found.checkpoint->notes();
  found.notes.insert(found.notes.end(), notes.begin(), notes.end());
  return found;
}

Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(FoundCheckpoint found, open_checkpoint(path, CheckpointOptions()));
  return std::move(found.checkpoint);
}

}  // namespace moka
