#include "tests/golden_case.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace moka::golden {
namespace {

Array read_array(const nlohmann::json& json) {
  Array array;
  array.shape = json.at("shape").get<std::vector<size_t>>();
  array.data = json.at("data").get<std::vector<double>>();
  return array;
}

std::map<std::string, Array> read_arrays(const nlohmann::json& json) {
  std::map<std::string, Array> arrays;
  for (const auto& [name, value] : json.items()) arrays[name] = read_array(value);
  return arrays;
}

}  // namespace

std::string golden_dir() {
  const char* chosen = std::getenv("MOKA_GOLDEN_DIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : MOKA_SOURCE_DIR "/tests/data/golden";
}

std::vector<std::string> golden_files() {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(golden_dir(), error)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Case load_case(const std::string& path) {
  std::ifstream file(path);
  const nlohmann::json json = nlohmann::json::parse(file);
  if (json.at("format") != "moka-golden/1")
    throw std::runtime_error(path + ": unknown case format");
  Case c;
  c.name = json.at("name");
  c.kind = json.at("kind");
  c.config = json.at("config");
  c.atol = json.at("tolerance").at("atol");
  c.rtol = json.at("tolerance").at("rtol");
  c.inputs = read_arrays(json.at("inputs"));
  c.weights = read_arrays(json.at("weights"));
  c.expected = read_arrays(json.at("expected"));
  return c;
}

}  // namespace moka::golden
