#include "converter/tokenizer_source.h"

#include <algorithm>
#include <utility>

#include "converter/file.h"
#include "converter/json.h"
#include "converter/sentencepiece.h"
#include "converter/symbol_vocabulary.h"
#include "converter/tokenizer_parts.h"

namespace moka {

namespace {

using nlohmann::json;

Status invalid(const std::string& what) { return Status(StatusCode::kInvalidArgument, what); }

// "a,b" after the word and its colon.
Result<std::vector<std::string>> paths_of(const std::string& source, size_t begin) {
  std::vector<std::string> paths;
  while (begin <= source.size()) {
    const size_t end = std::min(source.find(',', begin), source.size());
    if (end == begin) return invalid("tokenizer \"" + source + "\": a file name is empty");
    paths.push_back(source.substr(begin, end - begin));
    begin = end + 1;
  }
  return paths;
}

bool begins_with(const std::string& text, const char* begin) { return text.rfind(begin, 0) == 0; }

class SourceReader {
 public:
  explicit SourceReader(const TokenizerRequest& request) : request_(request) {}

  Result<TokenizerSource> read() {
    MOKA_RETURN_IF_ERROR(read_form(request_.source));
    TokenizerSpec& spec = result_.spec;
    if (request_.max_length != 0) spec.max_length = request_.max_length;
    if (request_.add_eos) {
      if (spec.eos_id < 0) {
        return invalid(request_.source + ": documents shall end with eos, but there is no eos id");
      }
      spec.add_eos = true;
    }
    MOKA_RETURN_IF_ERROR(compare_sizes());
    return std::move(result_);
  }

 private:
  Status read_form(const std::string& source) {
    if (source == "bytes") {
      result_.form = "bytes";
      result_.spec = bytes_tokenizer_spec();
      return same_ids();
    }
    const bool chars = begins_with(source, "chars:");
    if (chars || begins_with(source, "charfile:")) return read_corpus(source, chars);
    if (is_folder(source)) {
      const std::string path = find_tokenizer(source);
      if (path.empty()) {
        return Status(StatusCode::kNotFound,
                      source +
                          ": no tokenizer in this folder (tokenizer.json, tokenizer.model, "
                          "spiece.model, sentencepiece.bpe.model, vocab.bpe, merges.txt)");
      }
      return read_file(path);
    }
    return read_file(source);
  }

  Status read_corpus(const std::string& source, bool chars) {
    MOKA_ASSIGN_OR_RETURN(result_.files, paths_of(source, source.find(':') + 1));
    if (chars) {
      result_.form = "characters of a corpus";
      MOKA_ASSIGN_OR_RETURN(result_.spec, characters_of_texts(result_.files));
    } else {
      result_.form = "symbols of a corpus";
      bool bytes = false;
      MOKA_ASSIGN_OR_RETURN(result_.spec, symbols_of_texts(result_.files, &bytes));
      note_bytes(bytes);
    }
    return same_ids();
  }

  Status read_file(const std::string& path) {
    MOKA_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxTokenizerFile));
    result_.files.push_back(path);
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return Status(StatusCode::kCorrupt, path + ": is empty");
    // A SentencePiece model begins with field 1 and its length: a line feed and a small number. A
    // text that begins with a new line is JSON or nothing that is known.
    if (text[0] == '\n' && text[first] != '{' && text[first] != '[') return read_model(text, path);
    if (text[first] == '{' || text[first] == '[') {
      // "\n{" may begin a model, too: one whose first piece has 123 bytes.
      const auto parsed = parse_json(text, path);
      if (!parsed.ok() && text[0] == '\n') return read_model(text, path);
      if (!parsed.ok()) return parsed.status();
      return read_json(parsed.value(), text, path);
    }
    const std::string line = text.substr(0, text.find('\n'));
    const bool merges = begins_with(line, "#version") || (line.find(' ') != std::string::npos &&
                                                          line.find('\0') == std::string::npos);
    if (merges) return read_merges(path);
    return invalid(path +
                   ": is no tokenizer that is known: tokenizer.json, a SentencePiece model, "
                   "GPT-2's merges, or a list of symbols in JSON");
  }

  Status read_model(const std::string& text, const std::string& path) {
    MOKA_ASSIGN_OR_RETURN(result_.spec, parse_sentencepiece(text, path, request_.ids));
    result_.form =
        result_.spec.kind == TokenizerKind::kBpe ? "SentencePiece BPE" : "SentencePiece Unigram";
    return Status();
  }

  Status read_json(const json& document, const std::string& text, const std::string& path) {
    if (document.is_array()) return read_list(document, path, true);
    // A vocabulary may have pieces of these names; their values are numbers there.
    auto has = [&](const char* name, json::value_t type) {
      const auto found = document.find(name);
      return found != document.end() && found->type() == type;
    };
    if (has("model", json::value_t::object)) {
      MOKA_ASSIGN_OR_RETURN(result_.spec, parse_tokenizer_json(text, path, request_.ids));
      result_.form = result_.spec.kind == TokenizerKind::kBpe ? "tokenizer.json BPE"
                                                              : "tokenizer.json Unigram";
      return Status();
    }
    if (has("tokens", json::value_t::object)) {
      result_.form = "ListOps symbols";
      MOKA_ASSIGN_OR_RETURN(result_.spec, listops_tokenizer(document, path));
      result_.spec.source_hash = hash_of(text);
      return same_ids();
    }
    if (has("symbols", json::value_t::array)) {
      return read_list(document["symbols"], path, false);
    }
    return read_vocabulary(path);
  }

  Status read_list(const json& list, const std::string& path, bool characters) {
    std::vector<std::string> entries;
    for (size_t i = 0; i < list.size(); ++i) {
      if (!list[i].is_string()) {
        return Status(StatusCode::kCorrupt, path + ": entry " + std::to_string(i) + " is " +
                                                list[i].dump().substr(0, 40) + ", not a string");
      }
      entries.push_back(list[i].get<std::string>());
    }
    result_.form = characters ? "list of characters" : "list of symbols";
    bool bytes = false;
    auto spec =
        characters ? characters_tokenizer(entries, path) : symbols_tokenizer(entries, path, &bytes);
    if (!spec.ok()) return spec.status();
    result_.spec = std::move(spec).value();
    note_bytes(bytes);
    return same_ids();
  }

  // GPT-2's pair, named by one of the two.
  Status read_merges(const std::string& path) {
    for (const char* name : {"encoder.json", "vocab.json"}) {
      const std::string vocabulary = beside(path, name);
      if (path_exists(vocabulary)) return read_pair(vocabulary, path);
    }
    return Status(StatusCode::kNotFound, path + ": neither " + beside(path, "encoder.json") +
                                             " nor vocab.json lies beside these merges");
  }
  Status read_vocabulary(const std::string& path) {
    for (const char* name : {"vocab.bpe", "merges.txt"}) {
      const std::string merges = beside(path, name);
      if (path_exists(merges)) return read_pair(path, merges);
    }
    return Status(StatusCode::kNotFound, path + ": neither " + beside(path, "vocab.bpe") +
                                             " nor merges.txt lies beside this vocabulary");
  }
  // A prefix of the name is kept: "gpt2-vocab.bpe" goes with "gpt2-encoder.json".
  static std::string beside(const std::string& path, const std::string& name) {
    const std::string own = base_name(path);
    for (const char* known : {"vocab.bpe", "merges.txt", "encoder.json", "vocab.json"}) {
      const std::string end = known;
      if (own.size() > end.size() && own.compare(own.size() - end.size(), end.size(), end) == 0) {
        return join_path(folder_of(path), own.substr(0, own.size() - end.size()) + name);
      }
    }
    return join_path(folder_of(path), name);
  }
  Status read_pair(const std::string& vocabulary, const std::string& merges) {
    MOKA_ASSIGN_OR_RETURN(result_.spec, read_gpt2_tokenizer(vocabulary, merges, request_.ids));
    result_.files = {vocabulary, merges};
    result_.form = "GPT-2 BPE";
    if (!request_.end_of_text_is_pad) return Status();
    if (result_.spec.special_tokens.empty()) {
      return Status(StatusCode::kCorrupt, vocabulary + ": \"<|endoftext|>\" is missing");
    }
    const auto end = static_cast<int32_t>(result_.spec.special_tokens[0].id);
    result_.spec.eos_id = result_.spec.pad_id = end;
    result_.spec.bos_id = request_.ids.bos;
    return Status();
  }

  void note_bytes(bool bytes) {
    if (bytes) {
      result_.notes.push_back("the symbols are numbers of bytes; the tokenizer reads the bytes");
    }
  }

  // These vocabularies have fixed special tokens: another id in the configuration is a mistake.
  Status same_ids() {
    const TokenizerSpec& spec = result_.spec;
    const struct {
      const char* name;
      int32_t given, built_in;
    } fields[] = {{"bos", request_.ids.bos, spec.bos_id},
                  {"eos", request_.ids.eos, spec.eos_id},
                  {"pad", request_.ids.pad, spec.pad_id}};
    for (const auto& field : fields) {
      if (field.given == -1 || field.given == field.built_in) continue;
      return invalid(std::string("the ") + field.name + " id was given as " +
                     std::to_string(field.given) + ", but tokenizer " + request_.source + " has " +
                     std::to_string(field.built_in));
    }
    return Status();
  }

  Status compare_sizes() {
    const size_t pieces = result_.spec.piece_ends.size();
    if (request_.vocab_size == 0 || pieces == request_.vocab_size) return Status();
    const std::string sizes = "the tokenizer has " + std::to_string(pieces) +
                              " tokens, the model has rows for " +
                              std::to_string(request_.vocab_size);
    if (pieces > request_.vocab_size) return invalid(request_.source + ": " + sizes);
    result_.notes.push_back(sizes + "; ids beyond have no text");
    return Status();
  }

  const TokenizerRequest& request_;
  TokenizerSource result_;
};

}  // namespace

std::string find_tokenizer(const std::string& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "spiece.model",
                           "sentencepiece.bpe.model", "vocab.bpe", "merges.txt"}) {
    const std::string path = join_path(folder, name);
    if (path_exists(path)) return path;
  }
  return "";
}

Result<TokenizerSource> read_tokenizer(const TokenizerRequest& request) {
  return SourceReader(request).read();
}

}  // namespace moka
