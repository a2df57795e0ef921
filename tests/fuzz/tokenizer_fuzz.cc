// Fuzzes the text side. The first byte chooses what the rest is:
//   0  a pattern and a text, a zero byte between them
//   1  a tokenizer.json; if it is accepted, it must run
//   2  a text for a tokenizer with the rules of Llama 3; it must come back as it was, streamed too
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "converter/tokenizer_json.h"
#include "moka/tokenizer.h"
#include "runtime/text/pattern.h"
#include "tests/fuzz/targets.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void try_pattern(std::string_view input) {
  const size_t end = input.find('\0');
  if (end == std::string_view::npos || end > 200) return;
  const auto pattern = moka::text::Pattern::compile(input.substr(0, end));
  if (!pattern.ok()) return;
  const std::string_view text = input.substr(end + 1);
  moka::text::Matcher matcher(pattern.value());
  matcher.start(text);
  for (size_t from = 0; from <= text.size();) {
    moka::text::Match match;
    const auto found = matcher.find(from, &match);
    if (!found.ok() || !found.value()) break;
    require(match.begin >= from && match.begin <= match.end && match.end <= text.size());
    from = match.end > from ? match.end : match.end + 1;
  }
}

void try_json(std::string_view input) {
  auto spec = moka::parse_tokenizer_json(input, "fuzz", {});
  if (!spec.ok()) return;
  const auto tokenizer = moka::Tokenizer::create(std::move(spec).value());
  require(tokenizer.ok());
  std::vector<moka::TokenId> ids;
  if (!tokenizer.value().encode("ab 12\n\xFF<x>", &ids).ok()) require(ids.empty());
  require(tokenizer.value().decode(ids).ok());
}

moka::Tokenizer make_llama() {
  moka::TokenizerSpec spec = moka::bytes_tokenizer_spec();
  spec.kind = moka::TokenizerKind::kBpe;
  auto add = [&spec](uint32_t left, uint32_t right, std::string_view whole) {
    const auto id = static_cast<uint32_t>(spec.piece_ends.size());
    spec.merges.insert(spec.merges.end(), {left, right, id});
    spec.pieces.insert(spec.pieces.end(), whole.begin(), whole.end());
    spec.piece_ends.push_back(static_cast<uint32_t>(spec.pieces.size()));
    return id;
  };
  const uint32_t aa = add('a', 'a', "aa");
  add(aa, aa, "aaaa");
  add(' ', 'a', " a");
  add(0xC3, 0xA9, "\xC3\xA9");
  moka::PreTokenizer rule;
  rule.pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
                 R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  spec.pre_tokenizers.push_back(rule);
  auto tokenizer = moka::Tokenizer::create(std::move(spec));
  require(tokenizer.ok());
  return std::move(tokenizer).value();
}

void try_text(std::string_view input) {
  static const moka::Tokenizer tokenizer = make_llama();
  std::vector<moka::TokenId> ids;
  require(tokenizer.encode(input, &ids).ok());
  const auto text = tokenizer.decode(ids);
  require(text.ok() && text.value() == input);
  moka::TextStream stream(tokenizer);
  std::string streamed;
  for (moka::TokenId id : ids) streamed += stream.push(id);
  streamed += stream.finish();
  // With every stray byte replaced, what is streamed is UTF-8 through and through.
  for (size_t i = 0; i < streamed.size();) {
    const auto d = moka::text::decode(streamed, i);
    require(d.code_point <= moka::text::kMaxCodePoint);
    i += d.length;
  }
}

}  // namespace

void moka::fuzz::tokenizer_fuzz(const uint8_t* data, size_t size) {
  if (size == 0) return;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: try_pattern(input); break;
    case 1: try_json(input); break;
    default: try_text(input); break;
  }
}
