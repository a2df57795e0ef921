// Parity cases: JSON files with weights, inputs and outputs that a float64 reference computed. The
// format is described in tests/data/golden/README.md.
#ifndef MOKA_TESTS_GOLDEN_CASE_H_
#define MOKA_TESTS_GOLDEN_CASE_H_

#include <cstddef>
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/model_spec.h"

namespace moka::golden {

struct Array {
  std::vector<size_t> shape;
  std::vector<double> data;
  size_t size() const { return data.size(); }
};

struct Case {
  std::string name, kind;
  nlohmann::json config;
  double atol = 0, rtol = 0;
  std::map<std::string, Array> inputs, weights, expected;

  bool causal() const { return config.value("causal", true); }
  size_t number(const char* key) const { return config.at(key).get<size_t>(); }
};

// The folder: MOKA_GOLDEN_DIR, else the project's own copies.
std::string golden_dir();
std::vector<std::string> golden_files();
Case load_case(const std::string& path);

// A model of the case. Kinds below a whole model (mixer, block) become the only block of a model
// whose token table is a dummy. The tensors' memory belongs to the BuiltSpec.
struct BuiltSpec {
  ModelSpec spec;
  std::list<std::vector<float>> storage;
};
BuiltSpec build_spec(const Case& c);

}  // namespace moka::golden

#endif  // MOKA_TESTS_GOLDEN_CASE_H_
