#include "runtime/text/normalizer.h"

namespace moka::text {

namespace {

constexpr size_t kMaxRules = 32;
// A rule may make text longer; this stops "replace each character by a page" rules.
constexpr size_t kMaxText = size_t{1} << 30;

std::string_view strip(std::string_view text) {
  size_t begin = 0, end = text.size();
  while (begin < end) {
    const Decoded d = decode(text, begin);
    if (!is_space(d.code_point)) break;
    begin += d.length;
  }
  while (end > begin) {
    const size_t last = step_back(text, end);
    if (!is_space(decode(text, last).code_point)) break;
    end = last;
  }
  return text.substr(begin, end - begin);
}

Status too_long() {
  return Status(StatusCode::kOutOfRange, "tokenizer: the normalized text has more than " +
                                             std::to_string(kMaxText) + " bytes");
}

Status replace(const Pattern& pattern, std::string_view content, std::string_view text,
               std::string* out, bool* front_removed) {
  Matcher matcher(pattern);
  matcher.start(text);
  size_t done = 0, from = 0;
  size_t last_end = std::string_view::npos;
  while (from <= text.size()) {
    Match match;
    MOKA_ASSIGN_OR_RETURN(const bool found, matcher.find(from, &match));
    if (!found) break;
    if (match.begin == match.end && match.end == last_end) {
      from += from < text.size() ? decode(text, from).length : 1;
      continue;
    }
    if (out->size() + (match.begin - done) + content.size() > kMaxText) return too_long();
    out->append(text.substr(done, match.begin - done)).append(content);
    if (out->empty() && match.end > 0) *front_removed = true;
    done = from = last_end = match.end;
  }
  out->append(text.substr(done));
  return Status();
}

// Hugging Face's way with SentencePiece's map: a short cluster is looked up as a whole, where the
// shortest entry that begins it replaces all of it; else its characters are, one by one.
void replace_by_clusters(const CharsMap& map, std::string_view text, std::string* out,
                         bool* front_removed) {
  constexpr size_t kShortCluster = 6;  // bytes; shorter ones count
  for (size_t at = 0; at < text.size();) {
    if (at > 0 && out->empty()) *front_removed = true;
    const std::string_view cluster = text.substr(at, cluster_length(text, at));
    at += cluster.size();
    if (cluster.size() < kShortCluster) {
      const CharsMap::Found found = map.shortest(cluster);
      if (found.length != 0) {
        out->append(found.replacement);
        continue;
      }
    }
    for (size_t i = 0; i < cluster.size();) {
      const std::string_view character = cluster.substr(i, decode(cluster, i).length);
      const CharsMap::Found found = map.shortest(character);
      out->append(found.length != 0 ? found.replacement : character);
      i += character.size();
    }
  }
}

}  // namespace

Result<TextNormalizer::Step> TextNormalizer::make_step(const Normalizer& rule) {
  Step step;
  step.kind = rule.kind;
  step.content = rule.content;
  switch (rule.kind) {
    case NormalizerKind::kNfc:
    case NormalizerKind::kNfd:
    case NormalizerKind::kNfkc:
    case NormalizerKind::kNfkd:
    case NormalizerKind::kLowercase:
    case NormalizerKind::kStrip:
    case NormalizerKind::kPrepend: return step;
    case NormalizerKind::kRemoveText:
    case NormalizerKind::kReplace: {
      if (rule.kind == NormalizerKind::kRemoveText) step.content.clear();
      if (rule.literal && rule.pattern.empty()) {
        return Status(StatusCode::kUnsupported, "replaces an empty text");
      }
      MOKA_ASSIGN_OR_RETURN(Pattern pattern, rule.literal ? Pattern::literal(rule.pattern)
                                                          : Pattern::compile(rule.pattern));
      step.pattern.push_back(std::move(pattern));
      return step;
    }
    case NormalizerKind::kPrecompiledMap: {
      MOKA_ASSIGN_OR_RETURN(CharsMap map, CharsMap::parse(rule.data));
      step.map.push_back(std::move(map));
      return step;
    }
    default:
      return Status(StatusCode::kUnsupported,
                    "kind " + std::to_string(static_cast<int>(rule.kind)) + " is not known");
  }
}

Result<TextNormalizer> TextNormalizer::create(const std::vector<Normalizer>& rules,
                                              const PieceTrie* kept) {
  if (rules.size() > kMaxRules) {
    return Status(StatusCode::kUnsupported, "tokenizer: " + std::to_string(rules.size()) +
                                                " normalizers, at most " +
                                                std::to_string(kMaxRules) + " are run");
  }
  TextNormalizer normalizer;
  auto fail = [](size_t rule, const Status& status) {
    return Status(status.code(),
                  "tokenizer: normalizer " + std::to_string(rule) + ": " + status.message());
  };
  for (size_t i = 0; i < rules.size();) {
    size_t taken = 0;
    auto sentence = SentenceRules::take(rules, i, kept, &taken);
    if (!sentence.ok()) return fail(i, sentence.status());
    if (taken != 0) {
      Step step;
      step.kind = NormalizerKind::kSpacesToUnderline;
      step.sentence.push_back(std::move(sentence).value());
      normalizer.steps_.push_back(std::move(step));
      i += taken;
      continue;
    }
    auto step = make_step(rules[i]);
    if (!step.ok()) return fail(i, step.status());
    normalizer.steps_.push_back(std::move(step).value());
    ++i;
  }
  return normalizer;
}

Status TextNormalizer::run(const Step& step, std::string_view text, std::string* out,
                           bool* front_removed) {
  auto form = [&](NormalForm which) {
    return normalize(text, which, out)
               ? Status()
               : Status(StatusCode::kOutOfMemory, "tokenizer: no memory to normalize " +
                                                      std::to_string(text.size()) + " bytes");
  };
  switch (step.kind) {
    case NormalizerKind::kNfc: return form(NormalForm::kNfc);
    case NormalizerKind::kNfd: return form(NormalForm::kNfd);
    case NormalizerKind::kNfkc: return form(NormalForm::kNfkc);
    case NormalizerKind::kNfkd: return form(NormalForm::kNfkd);
    case NormalizerKind::kLowercase:
      for (size_t i = 0; i < text.size();) {
        const Decoded d = decode(text, i);
        append_lower(d.code_point, out);
        i += d.length;
      }
      return Status();
    case NormalizerKind::kStrip: {
      const std::string_view kept = strip(text);
      if (kept.data() != text.data()) *front_removed = true;
      out->assign(kept);
      return Status();
    }
    case NormalizerKind::kPrepend:
      if (!text.empty()) out->append(step.content).append(text);
      return Status();
    case NormalizerKind::kPrecompiledMap:
      replace_by_clusters(step.map[0], text, out, front_removed);
      return Status();
    case NormalizerKind::kSpacesToUnderline: step.sentence[0].apply(text, out); return Status();
    case NormalizerKind::kRemoveText:
    case NormalizerKind::kReplace:
      return replace(step.pattern[0], step.content, text, out, front_removed);
    default:
      return Status(StatusCode::kInternal, "tokenizer: a normalizer that create() let through");
  }
}

Result<std::string> TextNormalizer::apply(std::string_view text, bool* front_removed) const {
  bool unused = false;
  if (front_removed == nullptr) front_removed = &unused;
  std::string current(text);
  for (const Step& step : steps_) {
    std::string next;
    MOKA_RETURN_IF_ERROR(run(step, current, &next, front_removed));
    if (next.size() > kMaxText) return too_long();
    current = std::move(next);
  }
  return current;
}

}  // namespace moka::text
