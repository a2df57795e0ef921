// Vocabulary, merges and added tokens; the rules beside them are read in tokenizer_rules.cc.
#include "converter/tokenizer_json.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "converter/file.h"
#include "converter/json.h"
#include "converter/tokenizer_parts.h"
#include "converter/tokenizer_rules.h"
#include "converter/vocabulary.h"
#include "runtime/checksum.h"
#include "runtime/text/unigram.h"

namespace moka {

namespace {

using tokenizer_json::bool_member;
using tokenizer_json::Json;
using tokenizer_json::only_members;
using tokenizer_json::Place;
using tokenizer_json::string_member;
using tokenizer_json::Vocabulary;

Status read_vocabulary(const Json& json, const Place& place, Vocabulary* vocabulary) {
  if (!json.is_object()) return place.corrupt("is not an object");
  for (const auto& [written, id] : json.items()) {
    if (!id.is_number_unsigned())
      return place.corrupt("the id of \"" + written + "\" is not an id");
    MOKA_RETURN_IF_ERROR(vocabulary->add(written, id.get<uint64_t>(), place));
  }
  return Status();
}

Status add_merge(const std::string& left, const std::string& right, const Vocabulary& vocabulary,
                 const Place& place, TokenizerSpec* spec) {
  for (const std::string& written : {left, right, left + right}) {
    const int64_t* id = vocabulary.find(written);
    if (id == nullptr) {
      return place.corrupt("\"" + left + "\" + \"" + right + "\": piece \"" + written +
                           "\" is not in the vocabulary");
    }
    spec->merges.push_back(static_cast<uint32_t>(*id));
  }
  return Status();
}

// "left right"; pieces have no space, which is written as U+0120.
Status add_merge_line(std::string_view line, const Vocabulary& vocabulary, const Place& place,
                      TokenizerSpec* spec) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
      line.find(' ', space + 1) != std::string_view::npos) {
    return place.corrupt("\"" + std::string(line) + "\" is not two pieces with a space between");
  }
  return add_merge(std::string(line.substr(0, space)), std::string(line.substr(space + 1)),
                   vocabulary, place, spec);
}

Status read_merges(const Json& json, const Place& place, const Vocabulary& vocabulary,
                   TokenizerSpec* spec) {
  if (!json.is_array()) return place.corrupt("is not a list");
  for (size_t i = 0; i < json.size(); ++i) {
    const Json& merge = json[i];
    if (merge.is_string()) {
      MOKA_RETURN_IF_ERROR(
          add_merge_line(merge.get_ref<const std::string&>(), vocabulary, place[i], spec));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      MOKA_RETURN_IF_ERROR(add_merge(merge[0].get_ref<const std::string&>(),
                                     merge[1].get_ref<const std::string&>(), vocabulary, place[i],
                                     spec));
    } else {
      return place[i].corrupt("is neither \"left right\" nor [\"left\", \"right\"]");
    }
  }
  return Status();
}

Status read_added_tokens(const Json& json, const Place& place, Vocabulary* vocabulary,
                         TokenizerSpec* spec) {
  if (json.is_null()) return Status();
  if (!json.is_array()) return place.corrupt("is not a list");
  for (size_t i = 0; i < json.size(); ++i) {
    const Place here = place[i];
    MOKA_RETURN_IF_ERROR(only_members(
        json[i], here,
        {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
    const auto id = json[i].find("id");
    if (id == json[i].end() || !id->is_number_unsigned())
      return (here / "id").corrupt("is not an id");
    SpecialToken token;
    MOKA_ASSIGN_OR_RETURN(token.text, string_member(json[i], here, "content", ""));
    if (token.text.empty()) return (here / "content").corrupt("is empty");
    MOKA_ASSIGN_OR_RETURN(token.single_word, bool_member(json[i], here, "single_word", false));
    MOKA_ASSIGN_OR_RETURN(token.strip_left, bool_member(json[i], here, "lstrip", false));
    MOKA_ASSIGN_OR_RETURN(token.strip_right, bool_member(json[i], here, "rstrip", false));
    MOKA_ASSIGN_OR_RETURN(token.control, bool_member(json[i], here, "special", false));
    MOKA_ASSIGN_OR_RETURN(token.normalized,
                          bool_member(json[i], here, "normalized", !token.control));
    MOKA_RETURN_IF_ERROR(vocabulary->add_plain(token.text, id->get<uint64_t>(), here));
    token.id = id->get<uint32_t>();
    spec->special_tokens.push_back(std::move(token));
  }
  return Status();
}

// The models that are read. Pieces of byte-level BPE are written in GPT-2's letters for bytes; those
// of the others are text, in which U+2581 is a space.
enum class ModelType { kByteLevelBpe, kBpe, kUnigram };

// Members of "model" that must have one value, because Moka knows no other.
Result<ModelType> check_model(const Json& model, const Place& place) {
  MOKA_ASSIGN_OR_RETURN(const std::string type, string_member(model, place, "type", "BPE"));
  MOKA_ASSIGN_OR_RETURN(const bool fallback, bool_member(model, place, "byte_fallback", false));
  if (!model.contains("vocab")) return (place / "vocab").corrupt("is missing");
  if (type == "Unigram") {
    MOKA_RETURN_IF_ERROR(only_members(model, place, {"type", "unk_id", "vocab", "byte_fallback"}));
    return ModelType::kUnigram;
  }
  if (type != "BPE") {
    return (place / "type").unsupported("\"" + type + "\" is not known; BPE and Unigram are");
  }
  MOKA_RETURN_IF_ERROR(only_members(
      model, place,
      {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
       "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    MOKA_ASSIGN_OR_RETURN(const std::string text, string_member(model, place, name, ""));
    if (!text.empty()) return (place / name).unsupported("\"" + text + "\": only none is known");
  }
  const auto dropout = model.find("dropout");
  if (dropout != model.end() && !dropout->is_null() && *dropout != 0) {
    return (place / "dropout").unsupported("makes ids random; set it to null");
  }
  if (!model.contains("merges")) return (place / "merges").corrupt("is missing");
  return fallback ? ModelType::kBpe : ModelType::kByteLevelBpe;
}

Status read_bpe(const Json& model, const Place& place, Vocabulary* vocabulary,
                TokenizerSpec* spec) {
  spec->kind = TokenizerKind::kBpe;
  MOKA_ASSIGN_OR_RETURN(spec->fuse_unknown, bool_member(model, place, "fuse_unk", false));
  MOKA_ASSIGN_OR_RETURN(spec->ignore_merges, bool_member(model, place, "ignore_merges", false));
  MOKA_ASSIGN_OR_RETURN(spec->byte_fallback, bool_member(model, place, "byte_fallback", false));
  MOKA_RETURN_IF_ERROR(read_vocabulary(model["vocab"], place / "vocab", vocabulary));
  MOKA_RETURN_IF_ERROR(read_merges(model["merges"], place / "merges", *vocabulary, spec));
  MOKA_ASSIGN_OR_RETURN(const std::string unknown, string_member(model, place, "unk_token", ""));
  if (unknown.empty()) return Status();
  const int64_t* id = vocabulary->find(unknown);
  if (id == nullptr) {
    return (place / "unk_token").corrupt("\"" + unknown + "\" is not in the vocabulary");
  }
  spec->unknown_id = static_cast<int32_t>(*id);
  return Status();
}

// "vocab" is a list of [piece, score]; the index is the id.
Status read_unigram(const Json& model, const Place& place, Vocabulary* vocabulary,
                    std::vector<double>* scores, TokenizerSpec* spec) {
  spec->kind = TokenizerKind::kUnigram;
  spec->fuse_unknown = true;
  MOKA_ASSIGN_OR_RETURN(spec->byte_fallback, bool_member(model, place, "byte_fallback", false));
  const Json& list = model["vocab"];
  const Place here = place / "vocab";
  if (!list.is_array()) return here.corrupt("is not a list");
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& entry = list[i];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      return here[i].corrupt("is not [\"piece\", score]");
    }
    MOKA_RETURN_IF_ERROR(vocabulary->add(entry[0].get_ref<const std::string&>(), i, here[i]));
    const double score = entry[1].get<double>();
    if (!(score > static_cast<double>(text::kNeverInText) && score < 1e30)) {
      return here[i].corrupt("has the score " + entry[1].dump());
    }
    scores->push_back(score);
  }
  const auto unknown = model.find("unk_id");
  if (unknown == model.end() || unknown->is_null()) return Status();
  if (!unknown->is_number_unsigned() || unknown->get<uint64_t>() >= list.size()) {
    return (place / "unk_id").corrupt("is not the id of a piece");
  }
  spec->unknown_id = unknown->get<int32_t>();
  return Status();
}

// Two floats per score where they hold it exactly, else three: sums of doubles must round as they
// do in the program that made the file. Added tokens beyond the list have no score.
void store_scores(const std::vector<double>& scores, TokenizerSpec* spec) {
  auto split = [](double score, float part[3]) {
    for (int i = 0; i < 3; ++i) {
      part[i] = static_cast<float>(score);
      score -= static_cast<double>(part[i]);
    }
  };
  float part[3];
  size_t parts = 2;
  for (const double score : scores) {
    split(score, part);
    if (part[2] != 0.0f) parts = 3;
  }
  for (size_t id = 0; id < spec->piece_ends.size(); ++id) {
    part[0] = text::kNeverInText;
    part[1] = part[2] = 0.0f;
    if (id < scores.size()) split(scores[id], part);
    spec->scores.insert(spec->scores.end(), part, part + parts);
  }
}

// Truncation only says how long a text may be; padding only matters between texts of a batch.
Status read_lengths(const Json& json, const Place& place, TokenizerSpec* spec) {
  const auto truncation = json.find("truncation");
  if (truncation != json.end() && !truncation->is_null()) {
    const Place here = place / "truncation";
    MOKA_RETURN_IF_ERROR(
        only_members(*truncation, here, {"direction", "max_length", "strategy", "stride"}));
    const auto length = truncation->find("max_length");
    if (length == truncation->end() || !length->is_number_unsigned() ||
        length->get<uint64_t>() > 0xFFFFFFFF) {
      return (here / "max_length").corrupt("is not a length");
    }
    MOKA_ASSIGN_OR_RETURN(const std::string side,
                          string_member(*truncation, here, "direction", "Right"));
    if (side != "Right")
      return (here / "direction").unsupported("\"" + side + "\": only Right is known");
    spec->max_length = length->get<uint32_t>();
  }
  const auto padding = json.find("padding");
  if (padding != json.end() && padding->is_object() && padding->contains("strategy") &&
      (*padding)["strategy"] != "BatchLongest") {
    return (place / "padding" / "strategy")
        .unsupported("pads single texts: only BatchLongest is known");
  }
  return Status();
}

}  // namespace

Result<TokenizerSpec> parse_tokenizer_json(std::string_view text, const std::string& name,
                                           const TokenizerIds& ids) {
  MOKA_ASSIGN_OR_RETURN(const Json json, parse_json(text, name));
  const Place root{name, ""};
  MOKA_RETURN_IF_ERROR(
      only_members(json, root,
                   {"version", "truncation", "padding", "added_tokens", "normalizer",
                    "pre_tokenizer", "post_processor", "decoder", "model"}));
  MOKA_ASSIGN_OR_RETURN(const std::string version, string_member(json, root, "version", "1.0"));
  if (version != "1.0") return (root / "version").unsupported("\"" + version + "\" is not 1.0");
  const Json absent;
  auto member = [&](const char* key) -> const Json& {
    const auto found = json.find(key);
    return found == json.end() ? absent : *found;
  };
  if (!member("model").is_object()) return (root / "model").corrupt("is missing");

  TokenizerSpec spec;
  // Rules first: a WordPiece file is told that, and not that a piece of its vocabulary is odd.
  MOKA_ASSIGN_OR_RETURN(const ModelType type, check_model(member("model"), root / "model"));
  const bool byte_level = type == ModelType::kByteLevelBpe;
  MOKA_RETURN_IF_ERROR(
      tokenizer_json::read_normalizer(member("normalizer"), root / "normalizer", &spec));
  MOKA_RETURN_IF_ERROR(tokenizer_json::read_pre_tokenizer(
      member("pre_tokenizer"), root / "pre_tokenizer", byte_level, &spec));
  MOKA_RETURN_IF_ERROR(
      tokenizer_json::read_decoder(member("decoder"), root / "decoder", byte_level));
  MOKA_RETURN_IF_ERROR(read_lengths(json, root, &spec));

  Vocabulary vocabulary(member("model")["vocab"].size() + member("added_tokens").size());
  std::vector<double> scores;
  if (type == ModelType::kUnigram) {
    MOKA_RETURN_IF_ERROR(
        read_unigram(member("model"), root / "model", &vocabulary, &scores, &spec));
  } else {
    MOKA_RETURN_IF_ERROR(read_bpe(member("model"), root / "model", &vocabulary, &spec));
  }
  MOKA_RETURN_IF_ERROR(
      read_added_tokens(member("added_tokens"), root / "added_tokens", &vocabulary, &spec));
  MOKA_RETURN_IF_ERROR(vocabulary.finish(root / "model" / "vocab", byte_level, &spec));
  if (type == ModelType::kUnigram) store_scores(scores, &spec);
  MOKA_RETURN_IF_ERROR(set_ids(ids, name, &spec));
  MOKA_RETURN_IF_ERROR(tokenizer_json::read_post_processor(member("post_processor"),
                                                           root / "post_processor", &spec));
  spec.source_hash = hash_of(text);
  return checked_tokenizer(std::move(spec), name);
}

Result<TokenizerSpec> read_tokenizer_json(const std::string& path, const TokenizerIds& ids) {
  MOKA_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxTokenizerFile));
  return parse_tokenizer_json(text, path, ids);
}

Result<TokenizerSpec> read_gpt2_tokenizer(const std::string& vocab_path,
                                          const std::string& merges_path, const TokenizerIds& ids) {
  MOKA_ASSIGN_OR_RETURN(const std::string vocab_text,
                        read_text_file(vocab_path, kMaxTokenizerFile));
  MOKA_ASSIGN_OR_RETURN(const std::string merges_text,
                        read_text_file(merges_path, kMaxTokenizerFile));
  MOKA_ASSIGN_OR_RETURN(const Json json, parse_json(vocab_text, vocab_path));

  TokenizerSpec spec;
  spec.kind = TokenizerKind::kBpe;
  PreTokenizer split;
  split.pattern = tokenizer_json::kGpt2Pattern;
  spec.pre_tokenizers.push_back(std::move(split));

  Vocabulary vocabulary(json.size());
  MOKA_RETURN_IF_ERROR(read_vocabulary(json, {vocab_path, ""}, &vocabulary));
  const std::string end_text = "<|endoftext|>";
  if (const int64_t* id = vocabulary.find(end_text)) {
    SpecialToken token;
    token.id = static_cast<uint32_t>(*id);
    token.text = end_text;
    spec.special_tokens.push_back(token);
    spec.bos_id = spec.eos_id = static_cast<int32_t>(*id);
    MOKA_RETURN_IF_ERROR(vocabulary.add_plain(end_text, token.id, {vocab_path, ""}));
  }
  size_t number = 0;
  for (size_t begin = 0; begin < merges_text.size();) {
    const size_t end = std::min(merges_text.find('\n', begin), merges_text.size());
    const std::string_view line = std::string_view(merges_text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.empty() || (number == 1 && line.substr(0, 8) == "#version")) continue;
    MOKA_RETURN_IF_ERROR(
        add_merge_line(line, vocabulary, {merges_path, "line " + std::to_string(number)}, &spec));
  }
  MOKA_RETURN_IF_ERROR(vocabulary.finish({vocab_path, ""}, true, &spec));
  MOKA_RETURN_IF_ERROR(set_ids(ids, vocab_path, &spec));
  Xxh3Stream hash;
  hash.update(vocab_text.data(), vocab_text.size());
  hash.update(merges_text.data(), merges_text.size());
  spec.source_hash = checksum_text(hash.digest());
  return checked_tokenizer(std::move(spec), vocab_path);
}

TokenizerSpec bytes_tokenizer_spec() {
  TokenizerSpec spec;
  spec.kind = TokenizerKind::kBytes;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const char piece = static_cast<char>(byte);
    add_piece(std::string_view(&piece, 1), &spec);
  }
  // Plain text never turns into them.
  for (const char* name : {"<pad>", "<unk>", "<bos>", "<eos>"}) {
    add_special_piece(name, name, true, false, &spec);
  }
  spec.pad_id = 256;
  spec.unknown_id = 257;
  spec.bos_id = 258;
  spec.eos_id = 259;
  return spec;
}

}  // namespace moka
