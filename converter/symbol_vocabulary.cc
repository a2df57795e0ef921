#include "converter/symbol_vocabulary.h"

#include <algorithm>
#include <functional>
#include <set>
#include <unordered_map>
#include <utility>

#include "converter/file.h"
#include "converter/tokenizer_parts.h"
#include "runtime/text/tokenizer_check.h"
#include "runtime/text/unicode.h"

namespace moka {

namespace {

using nlohmann::json;

constexpr size_t kMaxSymbol = 4096;                      // bytes; the format's bound
constexpr uint64_t kMaxSymbolBytes = uint64_t{1} << 28;  // of all distinct symbols

// What Python's split() takes for white space: that of Unicode and four separators.
constexpr char kWhiteSpace[] = "[\\s\\x{1C}-\\x{1F}]";

bool is_python_space(text::CodePoint c) { return text::is_space(c) || (c >= 0x1C && c <= 0x1F); }

constexpr const char* kSpecialNames[] = {"unk", "pad", "bos", "eos"};

int32_t* special_id(size_t index, TokenizerSpec* spec) {
  int32_t* const ids[] = {&spec->unknown_id, &spec->pad_id, &spec->bos_id, &spec->eos_id};
  return ids[index];
}

// unk, pad, bos, eos in the authors' order.
void add_specials(bool looked_up, TokenizerSpec* spec) {
  for (size_t i = 0; i < 4; ++i) {
    const std::string text = std::string("<") + kSpecialNames[i] + ">";
    *special_id(i, spec) =
        static_cast<int32_t>(add_special_piece(text, text, i > 0, looked_up, spec));
  }
}

void cut_at_white_space(TokenizerSpec* spec) {
  PreTokenizer rule;
  rule.pattern = kWhiteSpace;
  rule.behavior = SplitBehavior::kRemoved;
  spec->pre_tokenizers.push_back(std::move(rule));
}

void add_literal_rule(NormalizerKind kind, const char* pattern, const char* content,
                      TokenizerSpec* spec) {
  Normalizer rule;
  rule.kind = kind;
  rule.literal = true;
  rule.pattern = pattern;
  rule.content = content;
  spec->normalizers.push_back(std::move(rule));
}

// Gives every character of a file to `see`, in order; its first failure ends the call.
Status each_character(const std::string& path, const std::function<Status(text::CodePoint)>& see) {
  MOKA_ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
  constexpr size_t kChunk = size_t{1} << 20;
  std::string text;
  for (uint64_t offset = 0; offset < file.size();) {
    const size_t kept = text.size();  // the beginning of a character
    const auto count = static_cast<size_t>(std::min<uint64_t>(kChunk, file.size() - offset));
    text.resize(kept + count);
    MOKA_RETURN_IF_ERROR(file.read(offset, text.data() + kept, count));
    const uint64_t begin = offset - kept;
    offset += count;
    size_t i = 0;
    while (i < text.size()) {
      const text::Utf8Scan scan = text::scan_utf8(std::string_view(text).substr(i));
      if (scan.kind == text::Utf8Scan::kCut && offset < file.size()) break;
      if (scan.kind != text::Utf8Scan::kValid) {
        return Status(StatusCode::kCorrupt,
                      path + ": byte " + std::to_string(begin + i) + " is not UTF-8");
      }
      // A valid scan may be a run of characters.
      for (const size_t end = i + scan.length; i < end;) {
        const text::Decoded d = text::decode(text, i);
        MOKA_RETURN_IF_ERROR(see(d.code_point));
        i += d.length;
      }
    }
    text.erase(0, i);
  }
  return Status();
}

// The byte that a symbol such as "97" stands for, or -1.
int byte_of_symbol(const std::string& symbol) {
  if (symbol.empty() || symbol.size() > 3 || (symbol.size() > 1 && symbol[0] == '0')) return -1;
  int byte = 0;
  for (const char c : symbol) {
    if (c < '0' || c > '9') return -1;
    byte = byte * 10 + (c - '0');
  }
  return byte < 256 ? byte : -1;
}

Status too_many(const std::string& name, const std::string& what) {
  return Status(StatusCode::kOutOfRange, name + ": there are more than " + what);
}

Status check_count(size_t count, const std::string& name, const char* what) {
  if (count == 0) return Status(StatusCode::kCorrupt, name + ": there are no " + what);
  if (count > text::kMaxVocabulary - 4) {
    return too_many(name, std::to_string(text::kMaxVocabulary - 4) + " " + what);
  }
  return Status();
}

}  // namespace

Result<TokenizerSpec> characters_tokenizer(const std::vector<std::string>& characters,
                                           const std::string& name) {
  MOKA_RETURN_IF_ERROR(check_count(characters.size(), name, "characters"));
  TokenizerSpec spec;
  spec.kind = TokenizerKind::kChars;
  std::set<std::string_view> seen;
  for (size_t i = 0; i < characters.size(); ++i) {
    const std::string& character = characters[i];
    const bool one = !character.empty() && text::decode(character, 0).length == character.size();
    if (!one || !seen.insert(character).second) {
      return Status(StatusCode::kCorrupt,
                    name + ": entry " + std::to_string(i) + ", " + in_quotes(character) +
                        (one ? ", is there twice" : ", is not one character"));
    }
    add_piece(character, &spec);
  }
  add_specials(false, &spec);
  return checked_tokenizer(std::move(spec), name);
}

Result<TokenizerSpec> characters_of_texts(const std::vector<std::string>& paths) {
  std::vector<bool> seen(text::kMaxCodePoint + 1);
  for (const std::string& path : paths) {
    MOKA_RETURN_IF_ERROR(each_character(path, [&](text::CodePoint c) {
      seen[c] = true;
      return Status();
    }));
  }
  std::vector<std::string> characters;
  for (text::CodePoint c = 0; c < seen.size(); ++c) {
    if (!seen[c]) continue;
    characters.emplace_back();
    text::append_utf8(c, &characters.back());
  }
  return characters_tokenizer(characters, paths.empty() ? "chars" : paths[0]);
}

Result<TokenizerSpec> symbols_tokenizer(const std::vector<std::string>& symbols,
                                        const std::string& name, bool* bytes) {
  MOKA_RETURN_IF_ERROR(check_count(symbols.size(), name, "symbols"));
  const bool all_bytes = std::all_of(symbols.begin(), symbols.end(),
                                     [](const std::string& s) { return byte_of_symbol(s) >= 0; });
  if (bytes != nullptr) *bytes = all_bytes;
  TokenizerSpec spec;
  // A vocabulary of single bytes without merges is BPE's simplest case.
  spec.kind = all_bytes ? TokenizerKind::kBpe : TokenizerKind::kWords;
  add_specials(!all_bytes, &spec);
  spec.unknown_id = -1;  // a symbol that the authors' vocabulary lacks is an error
  std::set<std::string_view> seen = {"<unk>", "<pad>", "<bos>", "<eos>"};
  for (size_t i = 0; i < symbols.size(); ++i) {
    const std::string& symbol = symbols[i];
    if (symbol.empty() || symbol.size() > kMaxSymbol || !seen.insert(symbol).second) {
      return Status(StatusCode::kCorrupt, name + ": symbol " + std::to_string(i) + ", " +
                                              in_quotes(symbol) +
                                              ", is there twice, empty, or longer than " +
                                              std::to_string(kMaxSymbol) + " bytes");
    }
    const char byte = static_cast<char>(all_bytes ? byte_of_symbol(symbol) : 0);
    add_piece(all_bytes ? std::string_view(&byte, 1) : std::string_view(symbol), &spec);
  }
  if (all_bytes) {
    if (seen.count("10") == 0) add_literal_rule(NormalizerKind::kRemoveText, "\n", "", &spec);
  } else {
    spec.normalizers.emplace_back();
    spec.normalizers.back().kind = NormalizerKind::kLowercase;
    cut_at_white_space(&spec);
  }
  return checked_tokenizer(std::move(spec), name);
}

Result<TokenizerSpec> symbols_of_texts(const std::vector<std::string>& paths, bool* bytes) {
  struct Count {
    uint64_t count = 0;
    size_t order = 0;
  };
  std::unordered_map<std::string, Count> counts;
  uint64_t total = 0;
  std::string symbol;
  auto finish = [&](const std::string& path) {
    if (symbol.empty()) return Status();
    Count& entry = counts[symbol];
    if (entry.count++ == 0) {
      entry.order = counts.size();
      total += symbol.size();
    }
    symbol.clear();
    if (counts.size() > text::kMaxVocabulary || total > kMaxSymbolBytes) {
      return too_many(path, std::to_string(counts.size() - 1) + " distinct symbols");
    }
    return Status();
  };
  for (const std::string& path : paths) {
    MOKA_RETURN_IF_ERROR(each_character(path, [&](text::CodePoint c) {
      if (is_python_space(c)) return finish(path);
      text::append_lower(c, &symbol);
      if (symbol.size() <= kMaxSymbol) return Status();
      return Status(StatusCode::kCorrupt, path + ": a symbol has more than " +
                                              std::to_string(kMaxSymbol) +
                                              " bytes without white space");
    }));
    MOKA_RETURN_IF_ERROR(finish(path));
  }
  for (const char* special : {"<unk>", "<pad>", "<bos>", "<eos>"}) counts.erase(special);
  std::vector<std::pair<std::string, Count>> sorted(counts.begin(), counts.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second.count != b.second.count ? a.second.count > b.second.count
                                            : a.second.order < b.second.order;
  });
  std::vector<std::string> symbols;
  for (const auto& entry : sorted) symbols.push_back(entry.first);
  return symbols_tokenizer(symbols, paths.empty() ? "charfile" : paths[0], bytes);
}

Result<TokenizerSpec> listops_tokenizer(const json& document, const std::string& name) {
  auto corrupt = [&](const std::string& what) {
    return Status(StatusCode::kCorrupt, name + ": " + what);
  };
  const auto tokens = document.find("tokens"), specials = document.find("special_tokens");
  if (tokens == document.end() || !tokens->is_object()) return corrupt("tokens is not an object");
  if (specials == document.end() || !specials->is_object()) {
    return corrupt("special_tokens is not an object");
  }
  MOKA_RETURN_IF_ERROR(check_count(tokens->size(), name, "tokens"));
  std::vector<const std::string*> symbols(tokens->size());
  for (const auto& [symbol, id] : tokens->items()) {
    const bool known = id.is_number_unsigned() && id.get<uint64_t>() < symbols.size() &&
                       symbols[id.get<size_t>()] == nullptr;
    if (!known || symbol.empty() || symbol.size() > kMaxSymbol) {
      return corrupt("tokens." + symbol + " is " + id.dump() + "; the ids of " +
                     std::to_string(symbols.size()) + " symbols are 0 to " +
                     std::to_string(symbols.size() - 1) + ", each once");
    }
    symbols[id.get<size_t>()] = &symbol;
  }
  TokenizerSpec spec;
  spec.kind = TokenizerKind::kWords;
  std::unordered_map<int64_t, size_t> special;  // id: which of kSpecialNames
  for (size_t i = 0; i < 4; ++i) {
    const std::string key = kSpecialNames[i];
    const auto given = specials->find(key);
    const json value = given == specials->end() ? json("<" + key + ">") : *given;
    const json id = value.is_string() && tokens->contains(value.get<std::string>())
                        ? (*tokens)[value.get<std::string>()]
                        : value;
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= symbols.size()) {
      if (given == specials->end()) continue;  // the authors' default, and the model lacks it
      return corrupt("special_tokens." + key + " is " + value.dump() + ", which is not in tokens");
    }
    *special_id(i, &spec) = id.get<int32_t>();
    special.emplace(id.get<int64_t>(), i);
  }
  for (size_t id = 0; id < symbols.size(); ++id) {
    const auto found = special.find(static_cast<int64_t>(id));
    if (found == special.end()) {
      add_piece(*symbols[id], &spec);
    } else {
      add_special_piece(*symbols[id], *symbols[id], found->second > 0, true, &spec);
    }
  }
  add_literal_rule(NormalizerKind::kRemoveText, "(", "", &spec);
  add_literal_rule(NormalizerKind::kRemoveText, ")", "", &spec);
  add_literal_rule(NormalizerKind::kReplace, "]", "X", &spec);
  cut_at_white_space(&spec);
  return checked_tokenizer(std::move(spec), name);
}

}  // namespace moka
