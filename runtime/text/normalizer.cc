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
               std::string* out) {
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
    done = from = last_end = match.end;
  }
  out->append(text.substr(done));
  return Status();
}

}  // namespace

Result<TextNormalizer::Step> TextNormalizer::make_step(const Normalizer& rule) {
  Step step{rule.kind, rule.content, {}};
  switch (rule.kind) {
    case NormalizerKind::kNfc:
    case NormalizerKind::kNfd:
    case NormalizerKind::kNfkc:
    case NormalizerKind::kNfkd:
    case NormalizerKind::kLowercase:
    case NormalizerKind::kStrip:
    case NormalizerKind::kPrepend: return step;
    case NormalizerKind::kReplace: {
      if (rule.literal && rule.pattern.empty()) {
        return Status(StatusCode::kUnsupported, "Replace of an empty text");
      }
      MOKA_ASSIGN_OR_RETURN(Pattern pattern, rule.literal ? Pattern::literal(rule.pattern)
                                                          : Pattern::compile(rule.pattern));
      step.pattern.push_back(std::move(pattern));
      return step;
    }
    case NormalizerKind::kPrecompiledMap:
      return Status(StatusCode::kUnsupported, "PrecompiledMap is not built yet");
    case NormalizerKind::kCollapseSpaces:
      return Status(StatusCode::kUnsupported, "CollapseSpaces is not built yet");
    case NormalizerKind::kSpacesToUnderline:
      return Status(StatusCode::kUnsupported, "SpacesToUnderline is not built yet");
    case NormalizerKind::kRemoveText:
      return Status(StatusCode::kUnsupported, "RemoveText is not built yet");
    default:
      return Status(StatusCode::kUnsupported,
                    "kind " + std::to_string(static_cast<int>(rule.kind)) + " is not known");
  }
}

Result<TextNormalizer> TextNormalizer::create(const std::vector<Normalizer>& rules) {
  if (rules.size() > kMaxRules) {
    return Status(StatusCode::kUnsupported, "tokenizer: " + std::to_string(rules.size()) +
                                                " normalizers, at most " +
                                                std::to_string(kMaxRules) + " are run");
  }
  TextNormalizer normalizer;
  for (size_t i = 0; i < rules.size(); ++i) {
    auto step = make_step(rules[i]);
    if (!step.ok()) {
      return Status(step.status().code(),
                    "tokenizer: normalizer " + std::to_string(i) + ": " + step.status().message());
    }
    normalizer.steps_.push_back(std::move(step).value());
  }
  return normalizer;
}

Status TextNormalizer::run(const Step& step, std::string_view text, std::string* out) {
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
    case NormalizerKind::kStrip: out->assign(strip(text)); return Status();
    case NormalizerKind::kPrepend:
      if (!text.empty()) out->append(step.content).append(text);
      return Status();
    case NormalizerKind::kReplace: return replace(step.pattern[0], step.content, text, out);
    default:
      return Status(StatusCode::kInternal, "tokenizer: a normalizer that create() let through");
  }
}

Result<std::string> TextNormalizer::apply(std::string_view text) const {
  std::string current(text);
  for (const Step& step : steps_) {
    std::string next;
    MOKA_RETURN_IF_ERROR(run(step, current, &next));
    if (next.size() > kMaxText) return too_long();
    current = std::move(next);
  }
  return current;
}

}  // namespace moka::text
