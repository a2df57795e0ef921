// Whatever bytes come as a configuration: an error or a model that can be described.
//
// No corpus is needed. The first byte chooses: below 128, the rest is the file, read as config.yaml
// of the authors' code, of the sibling code, or as config.json. From 128 on, the rest are changes
// to a good file, two bytes each: one of place (every other byte), one of value.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "converter/authors_config.h"
#include "converter/flat_yaml.h"
#include "converter/json.h"
#include "converter/latte_config.h"
#include "converter/sibling_checkpoint.h"
#include "tests/fuzz/targets.h"

namespace {

const char kYaml[] =
    "hidden_dim: 16\nnheads: 2 # x\nL: 8\nnlayers: 2\nmax_seq_len: 16\nprenorm: True\n"
    "batchnorm: False\nattention_type: \"bid_latte\"\npool: mean\nnum_classes: 3\n"
    "dataset_name: 'imdb'\ntokenize_img: no\n";
const char kJson[] =
    "{\"model_type\":\"latte\",\"vocab_size\":20,\"hidden_size\":16,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":2,\"num_latents\":8,\"block_type\":\"glu\",\"mixer\":\"macchiato\","
    "\"prenorm\":true,\"norm\":\"rmsnorm\",\"positions\":\"none\",\"window\":4,"
    "\"shared_layers\":[0,0],\"head\":\"regression\",\"num_outputs\":2,\"quantiles\":[0.5],"
    "\"output_mean\":[0,1],\"id2label\":{\"0\":\"a\"},\"vapor\":{\"theta\":10}}";

void read_all(const std::string& text) {
  const std::string where = "x";
  const auto json = moka::parse_json(text, where);
  if (json.ok() && json.value().is_object()) {
    const auto config = moka::parse_latte_config(json.value(), where);
    if (config.ok() && config.value().layers == 0) std::abort();
  }
  const auto yaml = moka::parse_flat_yaml(text, where);
  if (!yaml.ok()) return;
  moka::AuthorsTree tree;
  tree.task = moka::LatteOutput::kClassifier;
  tree.encoder = "encoder/";
  tree.block_module = "TransBlock_";
  tree.mixer_module = "BidLatte_0";
  tree.attention = "bid_latte";
  tree.layers = 2;
  tree.width = 16;
  tree.vocab_size = 260;
  tree.latents = 8;
  tree.classes = 3;
  const auto authors = moka::read_authors_config(tree, yaml.value(), where, std::nullopt);
  if (authors.ok() && 16 % authors.value().config.heads != 0) std::abort();
  moka::SiblingTree sibling;
  sibling.attention = "latte";
  sibling.mixer_module = "CausalLatentAttention_0";
  sibling.layers = 2;
  sibling.width = 16;
  sibling.vocab_size = 20;
  sibling.context = 10;
  const auto other = moka::read_sibling_config(sibling, yaml.value(), where);
  if (other.ok() && 16 % other.value().config.heads != 0) std::abort();
}

}  // namespace

void moka::fuzz::config_fuzz(const uint8_t* data, size_t size) {
  if (size == 0) return;
  const std::string rest(reinterpret_cast<const char*>(data + 1), size - 1);
  if (data[0] < 128) {
    read_all(rest);
    return;
  }
  std::string text = data[0] % 2 == 0 ? kYaml : kJson;
  for (size_t i = 0; i + 1 < rest.size(); i += 2) {
    const auto place = static_cast<uint8_t>(rest[i]);
    text[(place * 2u) % text.size()] = rest[i + 1];
  }
  read_all(text);
}
