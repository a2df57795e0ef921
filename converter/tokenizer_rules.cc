#include "converter/tokenizer_rules.h"

#include <algorithm>

#include "runtime/text/chars_map.h"
#include "runtime/text/pattern.h"
#include "runtime/text/sentence_rules.h"

namespace moka::tokenizer_json {

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr int kMaxNesting = 8;  // of Sequences

// Adds one rule to the spec, or refuses it. `type` is its "type".
using AddRule = Status (*)(const std::string& type, const Json& json, const Place& place,
                           TokenizerSpec* spec);

Result<std::string> type_of(const Json& json, const Place& place) {
  if (!json.is_object()) return place.corrupt("is not an object");
  MOKA_ASSIGN_OR_RETURN(std::string type, string_member(json, place, "type", ""));
  if (type.empty()) return (place / "type").corrupt("is missing");
  return type;
}

// Walks nested Sequences, whose items are the member `list`.
Status each_rule(const Json& json, const Place& place, const char* list, int depth, AddRule add,
                 TokenizerSpec* spec) {
  MOKA_ASSIGN_OR_RETURN(const std::string type, type_of(json, place));
  if (type != "Sequence") return add(type, json, place, spec);
  if (depth >= kMaxNesting) return place.unsupported("Sequences nest too deep");
  MOKA_RETURN_IF_ERROR(only_members(json, place, {"type", list}));
  const auto items = json.find(list);
  if (items == json.end() || !items->is_array()) return (place / list).corrupt("is not a list");
  for (size_t i = 0; i < items->size(); ++i) {
    MOKA_RETURN_IF_ERROR(each_rule((*items)[i], (place / list)[i], list, depth + 1, add, spec));
  }
  return Status();
}

// {"String": "..."} or {"Regex": "..."}.
Status read_pattern(const Json& json, const Place& place, std::string* pattern, bool* literal) {
  const auto found = json.find("pattern");
  const Place here = place / "pattern";
  if (found == json.end() || !found->is_object() || found->size() != 1) {
    return here.corrupt("is not {\"String\": ...} or {\"Regex\": ...}");
  }
  const std::string kind = found->begin().key();
  if (kind != "String" && kind != "Regex") {
    return (here / kind).unsupported("is not String or Regex");
  }
  MOKA_ASSIGN_OR_RETURN(*pattern, string_member(*found, here, kind.c_str(), ""));
  *literal = kind == "String";
  const auto compiled =
      *literal ? text::Pattern::literal(*pattern) : text::Pattern::compile(*pattern);
  if (!compiled.ok()) {
    return (here / kind).error(compiled.status().code(), compiled.status().message());
  }
  const size_t doubtful = compiled.value().possessive_interval();
  if (doubtful != std::string::npos) {
    return (here / kind)
        .unsupported("at byte " + std::to_string(doubtful) +
                     ": \"+\" after {m,n} is possessive for some programs and a repetition for "
                     "others; write {m,n} or (?:x{m,n})+, whichever made the model's data");
  }
  return Status();
}

Result<SplitBehavior> behavior_of(const Json& json, const Place& place) {
  constexpr const char* kNames[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                    "Contiguous"};
  MOKA_ASSIGN_OR_RETURN(const std::string name, string_member(json, place, "behavior", "Isolated"));
  for (uint8_t i = 0; i < 5; ++i) {
    if (name == kNames[i]) return static_cast<SplitBehavior>(i);
  }
  return (place / "behavior").unsupported("\"" + name + "\" is not known");
}

Status add_strip(const Json& json, const Place& place, TokenizerSpec* spec) {
  MOKA_RETURN_IF_ERROR(only_members(json, place, {"type", "strip_left", "strip_right"}));
  MOKA_ASSIGN_OR_RETURN(const bool left, bool_member(json, place, "strip_left", true));
  MOKA_ASSIGN_OR_RETURN(const bool right, bool_member(json, place, "strip_right", true));
  Normalizer rule;
  rule.kind = left && right ? NormalizerKind::kStrip : NormalizerKind::kReplace;
  if (left != right) rule.pattern = left ? "\\A\\s+" : "\\s+\\z";
  if (left || right) spec->normalizers.push_back(std::move(rule));
  return Status();
}

// The bytes of a text in base64 (RFC 4648); false: it is none.
bool decode_base64(std::string_view text, std::vector<uint8_t>* bytes) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  uint32_t bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    uint32_t value = 0;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<uint32_t>(c - 'a') + 26;
    } else if (c >= '0' && c <= '9') {
      value = static_cast<uint32_t>(c - '0') + 52;
    } else if (c == '+' || c == '/') {
      value = c == '+' ? 62 : 63;
    } else {
      return false;
    }
    bits = bits << 6 | value;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes->push_back(static_cast<uint8_t>(bits >> count & 0xFF));
  }
  return count < 6;
}

Status add_precompiled(const Json& json, const Place& place, TokenizerSpec* spec) {
  MOKA_RETURN_IF_ERROR(only_members(json, place, {"type", "precompiled_charsmap"}));
  MOKA_ASSIGN_OR_RETURN(const std::string map,
                        string_member(json, place, "precompiled_charsmap", ""));
  if (map.empty()) return Status();  // nothing is replaced
  Normalizer rule;
  rule.kind = NormalizerKind::kPrecompiledMap;
  const Place here = place / "precompiled_charsmap";
  if (!decode_base64(map, &rule.data)) return here.corrupt("is not base64");
  const auto parsed = text::CharsMap::parse(rule.data);
  if (!parsed.ok()) return here.error(parsed.status().code(), parsed.status().message());
  spec->normalizers.push_back(std::move(rule));
  return Status();
}

// Control characters go, and what is some kind of space becomes one.
void add_nmt(TokenizerSpec* spec) {
  Normalizer rule;
  rule.kind = NormalizerKind::kRemoveText;
  rule.pattern = R"([\x{1}-\x{8}\x{B}\x{E}-\x{1F}\x{7F}\x{8F}\x{9F}])";
  spec->normalizers.push_back(rule);
  rule.kind = NormalizerKind::kReplace;
  rule.pattern =
      R"([\x{9}\x{A}\x{C}\x{D}\x{1680}\x{200B}-\x{200F}\x{2028}\x{2029}\x{2581}\x{FEFF}\x{FFFD}])";
  rule.content = " ";
  spec->normalizers.push_back(rule);
}

Status add_normalizer(const std::string& type, const Json& json, const Place& place,
                      TokenizerSpec* spec) {
  const struct {
    const char* type;
    NormalizerKind kind;
  } plain[] = {{"NFC", NormalizerKind::kNfc},
               {"NFD", NormalizerKind::kNfd},
               {"NFKC", NormalizerKind::kNfkc},
               {"NFKD", NormalizerKind::kNfkd},
               {"Lowercase", NormalizerKind::kLowercase}};
  Normalizer rule;
  for (const auto& entry : plain) {
    if (type != entry.type) continue;
    MOKA_RETURN_IF_ERROR(only_members(json, place, {"type"}));
    rule.kind = entry.kind;
    spec->normalizers.push_back(std::move(rule));
    return Status();
  }
  if (type == "Strip") return add_strip(json, place, spec);
  if (type == "Precompiled") return add_precompiled(json, place, spec);
  if (type == "Nmt") {
    MOKA_RETURN_IF_ERROR(only_members(json, place, {"type"}));
    add_nmt(spec);
    return Status();
  }
  if (type == "Prepend") {
    MOKA_RETURN_IF_ERROR(only_members(json, place, {"type", "prepend"}));
    rule.kind = NormalizerKind::kPrepend;
    MOKA_ASSIGN_OR_RETURN(rule.content, string_member(json, place, "prepend", ""));
  } else if (type == "Replace") {
    MOKA_RETURN_IF_ERROR(only_members(json, place, {"type", "pattern", "content"}));
    rule.kind = NormalizerKind::kReplace;
    MOKA_RETURN_IF_ERROR(read_pattern(json, place, &rule.pattern, &rule.literal));
    MOKA_ASSIGN_OR_RETURN(rule.content, string_member(json, place, "content", ""));
    if (rule.literal && rule.pattern == " " && rule.content == text::kSpaceMark) {
      rule = Normalizer();  // a rule of its own, because decoding undoes it
      rule.kind = NormalizerKind::kSpacesToUnderline;
    }
  } else {
    return (place / "type").unsupported("normalizer \"" + type + "\" is not known");
  }
  spec->normalizers.push_back(std::move(rule));
  return Status();
}

Status add_byte_level(const Json& json, const Place& place, TokenizerSpec* spec) {
  MOKA_RETURN_IF_ERROR(
      only_members(json, place, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  MOKA_ASSIGN_OR_RETURN(const bool space, bool_member(json, place, "add_prefix_space", true));
  MOKA_ASSIGN_OR_RETURN(const bool split, bool_member(json, place, "use_regex", true));
  if (space && !spec->pre_tokenizers.empty()) {
    return (place / "add_prefix_space")
        .unsupported("is true behind another pre-tokenizer, which puts spaces inside the text");
  }
  spec->add_prefix_space = space;
  if (split) {
    PreTokenizer rule;
    rule.pattern = kGpt2Pattern;
    spec->pre_tokenizers.push_back(std::move(rule));
  }
  return Status();
}

// Both forms: today's "prepend_scheme" and the older "add_prefix_space".
Status add_metaspace(const Json& json, const Place& place, TokenizerSpec* spec) {
  MOKA_RETURN_IF_ERROR(only_members(
      json, place,
      {"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"}));
  const std::string usual(text::kSpaceMark);
  MOKA_ASSIGN_OR_RETURN(const std::string mark, string_member(json, place, "replacement", usual));
  if (mark != usual) {
    return (place / "replacement").unsupported("\"" + mark + "\": only U+2581 is known");
  }
  PreTokenizer rule;
  rule.kind = PreTokenizerKind::kMetaspace;
  rule.pattern = mark;
  MOKA_ASSIGN_OR_RETURN(const bool prefix, bool_member(json, place, "add_prefix_space", true));
  MOKA_ASSIGN_OR_RETURN(const std::string scheme,
                        string_member(json, place, "prepend_scheme", prefix ? "always" : "never"));
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return (place / "prepend_scheme")
        .unsupported("\"" + scheme + "\" is not always, first or never");
  }
  rule.add_prefix_space = scheme != "never";
  rule.literal = scheme == "first";
  MOKA_ASSIGN_OR_RETURN(const bool split, bool_member(json, place, "split", true));
  rule.behavior = split ? SplitBehavior::kMergedWithNext : SplitBehavior::kContiguous;
  spec->pre_tokenizers.push_back(std::move(rule));
  return Status();
}

Status add_pre_tokenizer(const std::string& type, const Json& json, const Place& place,
                         TokenizerSpec* spec) {
  // The spec has no flag for it: kind is kUnigram where there may be no ByteLevel, else it stays
  // kNone until ByteLevel has been seen.
  const bool byte_level = spec->kind != TokenizerKind::kUnigram;
  if (type == "ByteLevel" && !byte_level) {
    return (place / "type").unsupported("ByteLevel, but the pieces are characters");
  }
  if (type == "Metaspace" && !byte_level) return add_metaspace(json, place, spec);
  if (spec->kind == TokenizerKind::kBpe) {
    return place.unsupported("\"" + type + "\" behind ByteLevel, which must be the last");
  }
  if (type == "ByteLevel") {
    MOKA_RETURN_IF_ERROR(add_byte_level(json, place, spec));
    spec->kind = TokenizerKind::kBpe;
    return Status();
  }
  PreTokenizer rule;
  if (type == "Split") {
    MOKA_RETURN_IF_ERROR(only_members(json, place, {"type", "pattern", "behavior", "invert"}));
    MOKA_RETURN_IF_ERROR(read_pattern(json, place, &rule.pattern, &rule.literal));
    MOKA_ASSIGN_OR_RETURN(rule.behavior, behavior_of(json, place));
    MOKA_ASSIGN_OR_RETURN(rule.invert, bool_member(json, place, "invert", false));
  } else if (type == "Digits") {
    MOKA_RETURN_IF_ERROR(only_members(json, place, {"type", "individual_digits"}));
    rule.kind = PreTokenizerKind::kDigits;
    MOKA_ASSIGN_OR_RETURN(rule.individual_digits,
                          bool_member(json, place, "individual_digits", false));
  } else if (type == "Punctuation") {
    MOKA_RETURN_IF_ERROR(only_members(json, place, {"type", "behavior"}));
    rule.kind = PreTokenizerKind::kPunctuation;
    MOKA_ASSIGN_OR_RETURN(rule.behavior, behavior_of(json, place));
  } else if (type == "Whitespace" || type == "WhitespaceSplit") {
    MOKA_RETURN_IF_ERROR(only_members(json, place, {"type"}));
    rule.kind =
        type == "Whitespace" ? PreTokenizerKind::kWhitespace : PreTokenizerKind::kWhitespaceSplit;
  } else {
    return (place / "type").unsupported("pre-tokenizer \"" + type + "\" is not known");
  }
  spec->pre_tokenizers.push_back(std::move(rule));
  return Status();
}

// The id that `special_tokens` of a template gives to `name`.
Result<int32_t> template_id(const Json& json, const Place& place, const std::string& name) {
  const Place here = place / "special_tokens" / name / "ids";
  const auto tokens = json.find("special_tokens");
  if (tokens == json.end() || !tokens->is_object() || !tokens->contains(name)) {
    return here.corrupt("is missing");
  }
  const Json& token = (*tokens)[name];
  const auto ids = token.is_object() ? token.find("ids") : token.end();
  if (!token.is_object() || ids == token.end() || !ids->is_array())
    return here.corrupt("is not a list");
  if (ids->size() != 1) return here.unsupported("is not one id");
  const Json& id = (*ids)[0];
  if (!id.is_number_unsigned() || id.get<uint64_t>() > 0x7FFFFFFF)
    return here.corrupt("is not an id");
  return id.get<int32_t>();
}

Status set_id(int32_t found, const char* name, const Place& place, int32_t* id) {
  if (*id >= 0 && *id != found) {
    return place.error(StatusCode::kInvalidArgument,
                       std::string("puts token ") + std::to_string(found) + " there, but the " +
                           name + " id was given as " + std::to_string(*id));
  }
  *id = found;
  return Status();
}

Status add_template(const Json& json, const Place& place, TokenizerSpec* spec) {
  MOKA_RETURN_IF_ERROR(only_members(json, place, {"type", "single", "pair", "special_tokens"}));
  const Place here = place / "single";
  const auto single = json.find("single");
  if (single == json.end() || !single->is_array()) return here.corrupt("is not a list");
  bool text_seen = false;
  for (size_t i = 0; i < single->size(); ++i) {
    const Json& item = (*single)[i];
    if (!item.is_object() || item.size() != 1 || !item.begin()->is_object()) {
      return here[i].corrupt("is not {\"SpecialToken\": {...}} or {\"Sequence\": {...}}");
    }
    const std::string kind = item.begin().key();
    MOKA_ASSIGN_OR_RETURN(const std::string id,
                          string_member(*item.begin(), here[i] / kind, "id", ""));
    if (kind == "Sequence" && id == "A" && !text_seen) {
      text_seen = true;
      continue;
    }
    bool* flag = text_seen ? &spec->add_eos : &spec->add_bos;
    if (kind != "SpecialToken" || *flag) {
      return here[i].unsupported("only [token] text [token] is known");
    }
    MOKA_ASSIGN_OR_RETURN(const int32_t token, template_id(json, place, id));
    MOKA_RETURN_IF_ERROR(set_id(token, text_seen ? "eos" : "bos", here[i],
                                text_seen ? &spec->eos_id : &spec->bos_id));
    *flag = true;
  }
  return text_seen ? Status() : here.corrupt("has no {\"Sequence\": {\"id\": \"A\"}}");
}

Status add_post_processor(const std::string& type, const Json& json, const Place& place,
                          TokenizerSpec* spec) {
  if (type == "ByteLevel") {  // moves offsets, not ids
    return only_members(json, place, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  }
  if (type == "TemplateProcessing") {
    if (spec->add_bos || spec->add_eos) return place.unsupported("a second template");
    return add_template(json, place, spec);
  }
  return (place / "type").unsupported("post-processor \"" + type + "\" is not known");
}

Status check_byte_decoder(const std::string& type, const Json& json, const Place& place,
                          TokenizerSpec*) {
  if (type != "ByteLevel") {
    return (place / "type").unsupported("decoder \"" + type + "\" does not fit byte-level BPE");
  }
  return only_members(json, place, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
}

// Marks become spaces, bytes text, and the space in front goes: what decode() does by itself.
Status check_mark_decoder(const std::string& type, const Json& json, const Place& place,
                          TokenizerSpec*) {
  if (type == "ByteFallback" || type == "Fuse") return only_members(json, place, {"type"});
  if (type == "Metaspace") {
    TokenizerSpec unused;
    return add_metaspace(json, place, &unused);
  }
  if (type == "Strip") {
    const Json known = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
    return json == known ? Status()
                         : place.unsupported("strips something else than one space in front");
  }
  if (type == "Replace") {
    const Json known = {{"type", "Replace"},
                        {"pattern", {{"String", std::string(text::kSpaceMark)}}},
                        {"content", " "}};
    return json == known ? Status()
                         : place.unsupported("replaces something else than U+2581 by a space");
  }
  return (place / "type").unsupported("decoder \"" + type + "\" is not known");
}

}  // namespace

Status only_members(const Json& object, const Place& place,
                    std::initializer_list<const char*> known) {
  if (!object.is_object()) return place.corrupt("is not an object");
  for (const auto& [name, value] : object.items()) {
    const std::string& member = name;
    if (std::none_of(known.begin(), known.end(), [&](const char* k) { return member == k; })) {
      return (place / member).unsupported("is a member that is not known");
    }
  }
  return Status();
}

Result<bool> bool_member(const Json& object, const Place& place, const char* name, bool absent) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return absent;
  if (!found->is_boolean()) return (place / name).corrupt("is not true or false");
  return found->get<bool>();
}

Result<std::string> string_member(const Json& object, const Place& place, const char* name,
                                  const std::string& absent) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return absent;
  if (!found->is_string()) return (place / name).corrupt("is not a string");
  return found->get<std::string>();
}

Status read_normalizer(const Json& json, const Place& place, TokenizerSpec* spec) {
  if (json.is_null()) return Status();
  return each_rule(json, place, "normalizers", 0, add_normalizer, spec);
}

Status read_pre_tokenizer(const Json& json, const Place& place, bool byte_level,
                          TokenizerSpec* spec) {
  spec->kind = byte_level ? TokenizerKind::kNone : TokenizerKind::kUnigram;
  if (!json.is_null()) {
    MOKA_RETURN_IF_ERROR(each_rule(json, place, "pretokenizers", 0, add_pre_tokenizer, spec));
  }
  if (spec->kind == TokenizerKind::kNone) {
    return place.unsupported("has no ByteLevel; BPE is read with that or with model.byte_fallback");
  }
  return Status();
}

Status read_post_processor(const Json& json, const Place& place, TokenizerSpec* spec) {
  if (json.is_null()) return Status();
  return each_rule(json, place, "processors", 0, add_post_processor, spec);
}

Status read_decoder(const Json& json, const Place& place, bool byte_level) {
  if (json.is_null()) {
    return byte_level ? place.unsupported("is null; byte-level BPE needs ByteLevel") : Status();
  }
  TokenizerSpec unused;
  return each_rule(json, place, "decoders", 0, byte_level ? check_byte_decoder : check_mark_decoder,
                   &unused);
}

}  // namespace moka::tokenizer_json
