// The folder of a training run: checkpoints/<step>/default/..., and which step to take. Inside of
// the converter.
#ifndef MOKA_CONVERTER_TRAINING_RUN_H_
#define MOKA_CONVERTER_TRAINING_RUN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moka/status.h"

namespace moka {

struct ChosenStep {
  std::string folder;  // checkpoints/<step>
  uint64_t step = 0;
  std::vector<std::string> notes;  // why this one, which were passed over
};

// A folder's name as a step: decimal digits. None for any other name.
std::optional<uint64_t> step_number(const std::string& name);

// Whether a folder has children whose names are steps.
bool has_steps(const std::string& folder);

// Where the weights of a step lie: the step's folder, or the one folder in it ("default", as the
// authors have it) that holds a checkpoint of Orbax. kNotFound: neither; kInvalidArgument: several.
Result<std::string> weights_folder(const std::string& step_folder);

// Chooses among the steps in `folder`: the `wanted` one; else that of the lowest validation loss
// stored in <step>/metrics/metrics; else the newest. Folders whose name is no number and steps that
// were never completed are passed over with a note. kNotFound: no step is left, or not that one.
Result<ChosenStep> choose_step(const std::string& folder, std::optional<uint64_t> wanted);

// Names in a folder, sorted; at most 100000 are looked at.
std::vector<std::string> folder_entries(const std::string& folder);

}  // namespace moka

#endif  // MOKA_CONVERTER_TRAINING_RUN_H_
