// Checks on checkpoints and files of them that several tests make.
#ifndef MOKA_TESTS_CHECKPOINT_TESTING_H_
#define MOKA_TESTS_CHECKPOINT_TESTING_H_

#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "moka/status.h"
#include "tests/checkpoint_bytes.h"

namespace moka::test {

// All numbers of a tensor; the test case fails when there is none of that name.
std::vector<float> numbers_of(Checkpoint& checkpoint, const std::string& name);

// The code is that, and the message has these words.
void check_message(const Status& status, StatusCode code, const std::string& words);

// A store of one leaf in `folder`: manifest.ocdbt, d/node. Values are inline.
void write_ocdbt(const std::string& folder, const std::vector<OcdbtEntry>& entries);

}  // namespace moka::test

#endif  // MOKA_TESTS_CHECKPOINT_TESTING_H_
