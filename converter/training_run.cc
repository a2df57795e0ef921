#include "converter/training_run.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "converter/file.h"
#include "converter/json.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr size_t kMaxEntries = 100000;
constexpr uint64_t kMaxMetrics = uint64_t{1} << 20;
constexpr size_t kMaxListed = 20;  // steps in a message
constexpr const char* kCommit = "commit_success.txt";

struct Step {
  uint64_t number = 0;
  std::string name, folder;
  std::optional<double> loss;
  std::string loss_text;  // as it is stored
};

bool holds_orbax(const std::string& folder) {
  return path_exists(join_path(folder, "manifest.ocdbt")) ||
         path_exists(join_path(folder, "checkpoint")) ||
         path_exists(join_path(folder, "_METADATA"));
}

const json* find(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

// The loss is a decimal string in the authors' runs and a number in others. JSON's grammar of
// numbers serves both, and depends on no locale.
void take_loss(const json* value, Step* step) {
  if (value == nullptr) return;
  const std::string text = value->is_string() ? value->get<std::string>() : value->dump();
  const json number = json::parse(text, nullptr, false);
  if (!number.is_number()) return;  // also "nan" and "inf"
  step->loss = number.get<double>();
  step->loss_text = text;
}

// What <step>/metrics/metrics says, or else Orbax's own record. Either may be missing.
void read_loss(Step* step, std::vector<std::string>* notes) {
  const std::string path = join_path(join_path(step->folder, "metrics"), "metrics");
  if (path_exists(path)) {
    const auto metrics = read_json_file(path, kMaxMetrics);
    if (metrics.ok()) take_loss(find(metrics.value(), "loss"), step);
    if (!step->loss) {
      notes->push_back(path + ": has no \"loss\" that is a number; step " + step->name +
                       " counts as one without");
    }
    return;
  }
  const std::string record = join_path(step->folder, "_CHECKPOINT_METADATA");
  if (!path_exists(record)) return;
  const auto metadata = read_json_file(record, kMaxMetrics);
  if (!metadata.ok()) return;
  const json* metrics = find(metadata.value(), "metrics");
  if (metrics != nullptr) take_loss(find(*metrics, "loss"), step);
}

// Orbax writes commit_success.txt last, where it writes it at all: all steps of a run or none.
std::string why_incomplete(const Step& step, bool run_commits) {
  if (!weights_folder(step.folder).ok()) return "it holds no checkpoint";
  if (run_commits && !path_exists(join_path(step.folder, kCommit))) {
    return std::string("it has no ") + kCommit + ", so it was never completed";
  }
  const std::string record = join_path(step.folder, "_CHECKPOINT_METADATA");
  if (!path_exists(record)) return "";
  const auto metadata = read_json_file(record, kMaxMetrics);
  if (!metadata.ok()) return "its _CHECKPOINT_METADATA is damaged";
  const json* committed = find(metadata.value(), "commit_timestamp_nsecs");
  if (committed != nullptr && committed->is_null()) return "it was never completed";
  return "";
}

std::string list(const std::vector<Step>& steps) {
  std::string text;
  for (size_t i = 0; i < steps.size() && i < kMaxListed; ++i) {
    text += (i == 0 ? "" : ", ") + steps[i].name;
  }
  if (steps.size() > kMaxListed) {
    text += " and " + std::to_string(steps.size() - kMaxListed) + " more";
  }
  return text;
}

// All complete steps, sorted; notes on the rest.
Result<std::vector<Step>> read_steps(const std::string& folder, std::vector<std::string>* notes) {
  std::vector<Step> all, complete;
  for (const std::string& name : folder_entries(folder)) {
    const std::string path = join_path(folder, name);
    if (!is_folder(path)) continue;
    const auto number = step_number(name);
    if (number) {
      all.push_back({*number, name, path, std::nullopt, ""});
    } else {
      notes->push_back(path + ": passed over, its name is no step number");
    }
  }
  const bool commits = std::any_of(all.begin(), all.end(), [](const Step& step) {
    return path_exists(join_path(step.folder, kCommit));
  });
  for (Step& step : all) {
    const std::string reason = why_incomplete(step, commits);
    if (reason.empty()) {
      complete.push_back(std::move(step));
    } else {
      notes->push_back(step.folder + ": passed over, " + reason);
    }
  }
  std::sort(complete.begin(), complete.end(), [](const Step& a, const Step& b) {
    return std::pair(a.number, a.name) < std::pair(b.number, b.name);
  });
  for (size_t i = 1; i < complete.size(); ++i) {
    if (complete[i].number != complete[i - 1].number) continue;
    return Status(StatusCode::kInvalidArgument,
                  folder + ": has step " + std::to_string(complete[i].number) + " twice, as " +
                      complete[i - 1].name + " and " + complete[i].name +
                      "; name the folder of the one that is meant");
  }
  return complete;
}

// The index of the step to take without a wish, and why.
size_t best_step(const std::vector<Step>& steps, std::string* why) {
  size_t best = steps.size() - 1;
  size_t measured = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (!steps[i].loss) continue;
    if (measured++ == 0 || *steps[i].loss <= *steps[best].loss) best = i;
  }
  if (steps.size() == 1) {
    *why = "the only one";
  } else if (measured == 0) {
    *why = "the newest of " + list(steps) + "; none has a stored loss";
  } else {
    *why = "the lowest stored validation loss, " + steps[best].loss_text + ", of " + list(steps);
    if (measured < steps.size()) {
      *why += " (" + std::to_string(steps.size() - measured) + " without a stored loss)";
    }
  }
  return best;
}

}  // namespace

std::vector<std::string> folder_entries(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  const std::filesystem::directory_iterator end;
  while (!error && entry != end && names.size() < kMaxEntries) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<uint64_t> step_number(const std::string& name) {
  if (name.empty() || name.size() > 18) return std::nullopt;  // 18 digits fit 64 bits
  uint64_t value = 0;
  for (const char c : name) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

bool has_steps(const std::string& folder) {
  for (const std::string& name : folder_entries(folder)) {
    if (step_number(name) && is_folder(join_path(folder, name))) return true;
  }
  return false;
}

Result<std::string> weights_folder(const std::string& step_folder) {
  if (holds_orbax(step_folder)) return step_folder;
  const std::string usual = join_path(step_folder, "default");
  if (holds_orbax(usual)) return usual;
  std::vector<std::string> found;
  for (const std::string& name : folder_entries(step_folder)) {
    if (holds_orbax(join_path(step_folder, name))) found.push_back(name);
  }
  if (found.size() == 1) return join_path(step_folder, found[0]);
  if (found.empty()) {
    return Status(StatusCode::kNotFound,
                  step_folder +
                      ": holds no checkpoint, expected default/checkpoint or "
                      "default/manifest.ocdbt");
  }
  return Status(StatusCode::kInvalidArgument, step_folder + ": has checkpoints in both " +
                                                  found[0] + " and " + found[1] +
                                                  "; name the folder that is meant");
}

Result<ChosenStep> choose_step(const std::string& folder, std::optional<uint64_t> wanted) {
  ChosenStep chosen;
  MOKA_ASSIGN_OR_RETURN(std::vector<Step> steps, read_steps(folder, &chosen.notes));
  if (steps.empty()) {
    std::string message = folder + ": has no complete step";
    for (size_t i = 0; i < chosen.notes.size() && i < kMaxListed; ++i) {
      message += "\n  " + chosen.notes[i];
    }
    return Status(StatusCode::kNotFound, message);
  }
  size_t index = 0;
  std::string why = "as asked";
  if (wanted) {
    while (index < steps.size() && steps[index].number != *wanted) ++index;
    if (index == steps.size()) {
      return Status(StatusCode::kNotFound, folder + ": has no complete step " +
                                               std::to_string(*wanted) + ", only " + list(steps));
    }
  } else {
    for (Step& step : steps) read_loss(&step, &chosen.notes);
    index = best_step(steps, &why);
  }
  chosen.folder = steps[index].folder;
  chosen.step = steps[index].number;
  chosen.notes.insert(chosen.notes.begin(), "step " + steps[index].name + ": " + why);
  if (chosen.step == 0) {
    chosen.notes.insert(chosen.notes.begin() + 1,
                        "step 0 is the state before training, unless the run counts otherwise");
  }
  return chosen;
}

}  // namespace moka
