// The checks of what surrounds the network: tokenizer, test vector, metadata, snapshots.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/features.h"
#include "runtime/snapshots.h"
#include "runtime/spec_checker.h"

namespace moka {

uint32_t SpecChecker::vocab_size() const {
  const auto* tokens = std::get_if<TokenInput>(&spec_.input);
  return tokens == nullptr ? 0 : tokens->vocab_size;
}

// ---- tokenizer -------------------------------------------------------------------------------

Status SpecChecker::check_tokenizer() {
  if (!spec_.tokenizer) return Status();
  const TokenizerSpec& tokenizer = *spec_.tokenizer;
  place_ = "tokenizer";
  MOKA_RETURN_IF_ERROR(
      require(vocab_size() != 0, "there is one, but the model does not read tokens"));
  MOKA_RETURN_IF_ERROR(check_pieces(tokenizer));
  MOKA_RETURN_IF_ERROR(check_merges(tokenizer));
  MOKA_RETURN_IF_ERROR(check_special_tokens(tokenizer));
  return check_rules(tokenizer);
}

Status SpecChecker::check_pieces(const TokenizerSpec& tokenizer) const {
  const size_t count = tokenizer.piece_ends.size();
  const bool bytes = tokenizer.kind == TokenizerKind::kBytes;
  const uint32_t least = bytes ? 256 : tokenizer.kind == TokenizerKind::kNone ? 0 : 1;
  // The model's table may be padded with rows that no text reaches, but never be too short.
  MOKA_RETURN_IF_ERROR(range("the number of pieces", count, least, vocab_size()));
  uint32_t begin = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t end = tokenizer.piece_ends[i];
    if (end < begin || end > tokenizer.pieces.size() || end - begin > kMaxPieceBytes) {
      return fail("piece " + std::to_string(i) + " is bytes " + std::to_string(begin) + " to " +
                  std::to_string(end) + " of " + std::to_string(tokenizer.pieces.size()) +
                  "; pieces follow each other" + " and have at most " +
                  std::to_string(kMaxPieceBytes) + " bytes");
    }
    if (bytes && i < 256 && (end - begin != 1 || tokenizer.pieces[begin] != i)) {
      return fail("piece " + std::to_string(i) + " is not the byte of that number");
    }
    begin = end;
  }
  MOKA_RETURN_IF_ERROR(require(begin == tokenizer.pieces.size(),
                               "the pieces end at byte " + std::to_string(begin) + " of " +
                                   std::to_string(tokenizer.pieces.size())));
  const size_t scores = tokenizer.scores.size();
  // Unigram: one number per piece, or two or three whose sum is the score. Bpe: none, or one per
  // piece, which ranks the merges.
  const bool unigram = tokenizer.kind == TokenizerKind::kUnigram;
  if (unigram && scores != 2 * count && scores != 3 * count) {
    MOKA_RETURN_IF_ERROR(range("the number of scores", scores, count, count));
  } else if (!unigram && (tokenizer.kind != TokenizerKind::kBpe || scores != count)) {
    MOKA_RETURN_IF_ERROR(range("the number of scores", scores, 0, 0));
  }
  for (size_t i = 0; i < scores; ++i) {
    if (!std::isfinite(tokenizer.scores[i])) {
      return fail("the score of piece " + std::to_string(i) + " is not finite");
    }
  }
  return Status();
}

Status SpecChecker::check_merges(const TokenizerSpec& tokenizer) const {
  const std::vector<uint32_t>& merges = tokenizer.merges;
  MOKA_RETURN_IF_ERROR(require(merges.empty() || tokenizer.kind == TokenizerKind::kBpe,
                               "there are merges, but it is no bpe tokenizer"));
  MOKA_RETURN_IF_ERROR(
      require(merges.size() % 3 == 0,
              "merges has " + std::to_string(merges.size()) + " numbers, which are not triples"));
  const std::vector<uint32_t>& ends = tokenizer.piece_ends;
  const auto begin_of = [&ends](uint32_t id) { return id == 0 ? 0 : ends[id - 1]; };
  for (size_t i = 0; i < merges.size(); i += 3) {
    const uint32_t left = merges[i];
    const uint32_t right = merges[i + 1];
    const uint32_t merged = merges[i + 2];
    const uint32_t largest = std::max({left, right, merged});
    if (largest >= ends.size()) {
      return fail("merge " + std::to_string(i / 3) + " names id " + std::to_string(largest) +
                  ", but there are " + std::to_string(ends.size()) + " pieces");
    }
    const size_t left_size = ends[left] - begin_of(left);
    const size_t right_size = ends[right] - begin_of(right);
    const uint8_t* pieces = tokenizer.pieces.data();
    const uint8_t* whole = pieces + begin_of(merged);
    const bool equal = left_size != 0 && right_size != 0 &&
                       ends[merged] - begin_of(merged) == left_size + right_size &&
                       std::memcmp(whole, pieces + begin_of(left), left_size) == 0 &&
                       std::memcmp(whole + left_size, pieces + begin_of(right), right_size) == 0;
    if (!equal) {
      return fail("merge " + std::to_string(i / 3) + " makes piece " + std::to_string(merged) +
                  ", which is not piece " + std::to_string(left) + " followed by piece " +
                  std::to_string(right));
    }
  }
  return Status();
}

Status SpecChecker::check_special_tokens(const TokenizerSpec& tokenizer) const {
  const uint32_t vocabulary = vocab_size();
  std::vector<uint32_t> ids;
  for (const SpecialToken& token : tokenizer.special_tokens) {
    if (token.text.empty() || token.text.size() > kMaxPieceBytes) {
      return fail("the special token of id " + std::to_string(token.id) + " has " +
                  std::to_string(token.text.size()) + " bytes, expected 1 to " +
                  std::to_string(kMaxPieceBytes));
    }
    if (token.id >= vocabulary) {
      return fail("a special token has id " + std::to_string(token.id) +
                  ", but the vocabulary has " + std::to_string(vocabulary) + " ids");
    }
    ids.push_back(token.id);
  }
  std::sort(ids.begin(), ids.end());
  const auto twin = std::adjacent_find(ids.begin(), ids.end());
  if (twin != ids.end()) return fail("two special tokens have id " + std::to_string(*twin));
  const struct {
    const char* name;
    int32_t id;
  } named[] = {{"unknown_id", tokenizer.unknown_id},
               {"bos_id", tokenizer.bos_id},
               {"eos_id", tokenizer.eos_id},
               {"pad_id", tokenizer.pad_id}};
  for (const auto& entry : named) {
    MOKA_RETURN_IF_ERROR(
        require(entry.id == -1 || (entry.id >= 0 && static_cast<uint32_t>(entry.id) < vocabulary),
                std::string(entry.name) + " is " + std::to_string(entry.id) +
                    ", expected -1 or an id below " + std::to_string(vocabulary)));
  }
  MOKA_RETURN_IF_ERROR(require(!tokenizer.add_bos || tokenizer.bos_id >= 0,
                               "add_bos is set, but there is no bos_id"));
  return require(!tokenizer.add_eos || tokenizer.eos_id >= 0,
                 "add_eos is set, but there is no eos_id");
}

Status SpecChecker::check_rules(const TokenizerSpec& tokenizer) const {
  constexpr size_t kMaxRules = 64;
  MOKA_RETURN_IF_ERROR(
      range("the number of normalizers", tokenizer.normalizers.size(), 0, kMaxRules));
  MOKA_RETURN_IF_ERROR(
      range("the number of pre-tokenizers", tokenizer.pre_tokenizers.size(), 0, kMaxRules));
  for (const Normalizer& rule : tokenizer.normalizers) {
    MOKA_RETURN_IF_ERROR(
        range("length of a normalizer's pattern", rule.pattern.size(), 0, kMaxTextBytes));
    MOKA_RETURN_IF_ERROR(
        range("length of a normalizer's content", rule.content.size(), 0, kMaxTextBytes));
  }
  for (const PreTokenizer& rule : tokenizer.pre_tokenizers) {
    MOKA_RETURN_IF_ERROR(
        range("length of a pre-tokenizer's pattern", rule.pattern.size(), 0, kMaxTextBytes));
    MOKA_RETURN_IF_ERROR(require(rule.kind != PreTokenizerKind::kSplit || !rule.pattern.empty(),
                                 "a pre-tokenizer splits by an empty pattern"));
  }
  return Status();
}

// ---- test vector, metadata, snapshots --------------------------------------------------------

Status SpecChecker::check_token_ids(const char* field, const std::vector<TokenId>& ids) const {
  MOKA_RETURN_IF_ERROR(
      range((std::string("length of ") + field).c_str(), ids.size(), 1, kMaxWidth));
  for (const TokenId id : ids) {
    if (id < 0 || static_cast<uint32_t>(id) >= vocab_size()) {
      return fail(std::string(field) + " has id " + std::to_string(id) +
                  ", but the vocabulary has " + std::to_string(vocab_size()) + " ids");
    }
  }
  return Status();
}

Status SpecChecker::check_test_vector() {
  if (!spec_.test_vector) return Status();
  place_ = "test vector";
  MOKA_RETURN_IF_ERROR(
      require(vocab_size() != 0, "there is one, but the model does not read tokens"));
  MOKA_RETURN_IF_ERROR(check_token_ids("prompt", spec_.test_vector->prompt));
  return check_token_ids("expected", spec_.test_vector->expected);
}

// The same bounds as Sampler's own, so that a recommendation can be followed.
Status SpecChecker::check_sampling(const SamplerOptions& sampling) const {
  MOKA_RETURN_IF_ERROR(finite("sampling.temperature", sampling.temperature, 0, true));
  MOKA_RETURN_IF_ERROR(finite("sampling.repeat_penalty", sampling.repeat_penalty, 0, false));
  MOKA_RETURN_IF_ERROR(require(sampling.temperature <= 100 && sampling.repeat_penalty <= 100,
                               "sampling.temperature or repeat_penalty is above 100"));
  MOKA_RETURN_IF_ERROR(range("sampling.repeat_window", sampling.repeat_window, 0, kMaxWidth));
  MOKA_RETURN_IF_ERROR(require(
      sampling.top_p > 0 && sampling.top_p <= 1,
      "sampling.top_p is " + std::to_string(sampling.top_p) + ", expected above 0 and at most 1"));
  return require(sampling.min_p >= 0 && sampling.min_p <= 1,
                 "sampling.min_p is " + std::to_string(sampling.min_p) + ", expected 0 to 1");
}

Status SpecChecker::check_metadata() {
  const Metadata& metadata = spec_.metadata;
  place_ = "metadata";
  if (metadata.measurement) {
    const Measurement& m = *metadata.measurement;
    for (const double value :
         {m.bits_per_byte, m.bits_per_byte_float32, m.kl_mean, m.kl_max, m.argmax_agreement}) {
      MOKA_RETURN_IF_ERROR(
          require(std::isfinite(value), "the measurement has a number that is not finite"));
    }
  }
  return metadata.sampling ? check_sampling(*metadata.sampling) : Status();
}

Status SpecChecker::check_snapshots() {
  std::set<std::string_view> names;
  MOKA_RETURN_IF_ERROR(
      range("the number of prefix snapshots", spec_.prefix_snapshots.size(), 0, kMaxLayers));
  for (size_t i = 0; i < spec_.prefix_snapshots.size(); ++i) {
    const PrefixSnapshot& snapshot = spec_.prefix_snapshots[i];
    place_ = "prefix snapshot " + std::to_string(i);
    const std::string wrong = snapshot_name_error(snapshot.name);
    MOKA_RETURN_IF_ERROR(require(wrong.empty(), wrong));
    MOKA_RETURN_IF_ERROR(require(snapshot.size != 0, "it has no bytes"));
    place_ = "prefix snapshot '" + snapshot.name + "'";
    MOKA_RETURN_IF_ERROR(require(names.insert(snapshot.name).second, "the name is there twice"));
    MOKA_RETURN_IF_ERROR(range("length of the text", snapshot.text.size(), 0, kMaxTextBytes));
    if (!snapshot.isa.empty()) {
      const std::string wrong_isa = snapshot_name_error(snapshot.isa);
      MOKA_RETURN_IF_ERROR(require(wrong_isa.empty(), "isa: " + wrong_isa));
    }
    MOKA_RETURN_IF_ERROR(range("chunk", snapshot.chunk, 0, kMaxWidth));
    if (snapshot.tokens.empty()) continue;
    MOKA_RETURN_IF_ERROR(require(snapshot.tokens.size() == snapshot.position,
                                 "it is at position " + std::to_string(snapshot.position) +
                                     " and has " + std::to_string(snapshot.tokens.size()) +
                                     " tokens"));
    MOKA_RETURN_IF_ERROR(
        require(vocab_size() != 0, "it has tokens, but the model does not read any"));
    MOKA_RETURN_IF_ERROR(check_token_ids("tokens", snapshot.tokens));
  }
  return Status();
}

}  // namespace moka
