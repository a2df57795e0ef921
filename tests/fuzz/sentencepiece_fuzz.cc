// Fuzzes the reader of SentencePiece models: what it accepts must run on any text, and a decoded
// text must be what a stream gives, but for spaces in front and what is not UTF-8. The last bytes
// of the input are a text of its own.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "converter/sentencepiece.h"
#include "moka/tokenizer.h"
#include "tests/fuzz/targets.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void try_text(const moka::Tokenizer& tokenizer, std::string_view text) {
  std::vector<moka::TokenId> ids;
  const moka::Status status = tokenizer.encode(text, &ids);
  require(status.ok() || ids.empty());
  for (const moka::TokenId id : ids) {
    require(id >= 0 && static_cast<size_t>(id) < tokenizer.vocab_size());
    // A model may say that what it does not know is shown as nothing.
    require(!tokenizer.is_control(id) || id == tokenizer.unknown_id());
  }
  const auto decoded = tokenizer.decode(ids);
  require(decoded.ok());
  moka::TextStream stream(tokenizer);
  std::string streamed;
  for (const moka::TokenId id : ids) streamed += stream.push(id);
  streamed += stream.finish();
  if (streamed.find("\xEF\xBF\xBD") != std::string::npos) return;
  const std::string& end = decoded.value();
  require(streamed.size() >= end.size());
  require(streamed.compare(streamed.size() - end.size(), end.size(), end) == 0);
}

}  // namespace

void moka::fuzz::sentencepiece_fuzz(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  auto spec = moka::parse_sentencepiece(input, "fuzz", {});
  if (!spec.ok()) return;
  const auto tokenizer = moka::Tokenizer::create(std::move(spec).value());
  require(tokenizer.ok());
  try_text(tokenizer.value(), "");
  try_text(tokenizer.value(), "Hello  w\xC3\xB6rld\n \xE2\x96\x81<s> <unk>\xFF\xF0\x9F\x98\x80 ");
  try_text(tokenizer.value(), input.substr(size - std::min<size_t>(size, 64)));
}
