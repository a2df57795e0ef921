// ConfigReader: config.json with model_type "latte", key by key. Inside of latte_config*.cc.
#ifndef MOKA_CONVERTER_LATTE_CONFIG_READER_H_
#define MOKA_CONVERTER_LATTE_CONFIG_READER_H_

#include <optional>
#include <string>
#include <vector>

#include "converter/json.h"
#include "converter/latte_config.h"

namespace moka {

class LatteConfigReader {
 public:
  LatteConfigReader(const nlohmann::json& config, const std::string& where)
      : fields_(config, &problems_), where_(where) {}

  Result<LatteConfig> read();

 private:
  // A problem that lies in two keys together.
  void conflict(const std::string& what) { problems_.add(StatusCode::kInvalidArgument, what); }
  void unsupported(const std::string& what) { problems_.add(StatusCode::kUnsupported, what); }
  // `value` of `key` must be a multiple of the number of heads.
  void divides(const char* key, uint32_t value);

  // latte_config.cc: blocks and mixers.
  void read_sizes();
  LatteMixing read_mixer();
  void read_blocks();
  void read_norms(bool swiglu);
  void read_hidden();
  void read_window();
  void read_latents();
  void read_vapor();
  void read_front();
  void read_sharing();
  void read_memory();

  // latte_config_ends.cc: input, positions, heads.
  void read_input();
  void read_image();
  void read_positions();
  void read_head();
  void read_language_head();
  void read_classes();
  void read_labels();
  void read_regression();
  void read_final_norm();
  int32_t token_id(const char* key);
  std::vector<float> floats(const char* key, double low, size_t count);

  bool latent() const {
    return config_.mixer == LatteMixing::kLatteCausal || config_.mixer == LatteMixing::kLatteBid ||
           config_.mixer == LatteMixing::kMacchiato;
  }
  bool windowed() const {
    return config_.mixer == LatteMixing::kMacchiato || config_.mixer == LatteMixing::kWindow;
  }
  bool ahead() const {
    return config_.mixer == LatteMixing::kLatteBid || config_.mixer == LatteMixing::kLinformer;
  }
  const char* mixer_name() const;

  Problems problems_;
  JsonFields fields_;
  const std::string& where_;
  LatteConfig config_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_LATTE_CONFIG_READER_H_
