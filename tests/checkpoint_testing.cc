#include "tests/checkpoint_testing.h"

#include <algorithm>
#include <filesystem>

#include "doctest/doctest.h"
#include "tests/process.h"

namespace moka::test {

std::vector<float> numbers_of(Checkpoint& checkpoint, const std::string& name) {
  const auto& tensors = checkpoint.tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const SourceTensor& t) { return t.name == name; });
  REQUIRE_MESSAGE(found != tensors.end(), "no tensor " << name);
  std::vector<float> values(static_cast<size_t>(found->elements));
  const Status status = checkpoint.read(static_cast<size_t>(found - tensors.begin()), 0,
                                        values.size(), values.data());
  CAPTURE(status.message());
  CHECK(status.ok());
  return values;
}

void check_message(const Status& status, StatusCode code, const std::string& words) {
  CAPTURE(status.message());
  CHECK(status.code() == code);
  CHECK(status.message().find(words) != std::string::npos);
}

void write_ocdbt(const std::string& folder, const std::vector<OcdbtEntry>& entries) {
  const std::string leaf = ocdbt_envelope(kOcdbtNode, ocdbt_leaf_body({}, entries));
  std::filesystem::create_directories(folder + "/d");
  write_file(folder + "/d/node", leaf);
  write_file(
      folder + "/manifest.ocdbt",
      ocdbt_envelope(kOcdbtManifest, ocdbt_manifest_body({"d/node"}, 0, {0, 0, leaf.size()})));
}

}  // namespace moka::test
