#include "converter/auto_weights.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

namespace moka {
namespace {

// Where a tensor of a layer stands: "blocks.3.mixer.q.weight" is layer 3, "mixer in".
struct Place {
  std::optional<uint32_t> layer;
  std::string role;  // without a layer the tensor's name
};

bool begins_with(const std::string& text, const char* start) { return text.rfind(start, 0) == 0; }

Place place_of(const std::string& name) {
  const std::string kBlocks = "blocks.";
  const size_t digits = kBlocks.size(), dot = name.find('.', digits);
  if (!begins_with(name, kBlocks.c_str()) || dot == std::string::npos) return {std::nullopt, name};
  uint32_t layer = 0;
  for (size_t i = digits; i < dot; ++i) {
    if (name[i] < '0' || name[i] > '9' || layer > 100000) return {std::nullopt, name};
    layer = layer * 10 + static_cast<uint32_t>(name[i] - '0');
  }
  const std::string rest = name.substr(dot + 1);
  if (begins_with(rest, "mixer.o.")) return {layer, "mixer out"};
  if (begins_with(rest, "mixer.")) return {layer, "mixer in"};
  if (begins_with(rest, "fc2.") || begins_with(rest, "down.")) return {layer, "feed-forward out"};
  return {layer, "feed-forward in"};
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

// Measurements on the whole text, after which the least known to hold is good enough. Only where none
// holds there are more.
constexpr int kRounds = 3;

// The search: measures models that differ in how many of the ordered groups are int8.
class Search {
 public:
  Search(const AutoWeightsInput& input, const AutoWeightsProgress& progress)
      : input_(input), progress_(progress), groups_(weight_groups(input.narrow, input.wide)) {}

  Result<AutoWeights> run() {
    MOKA_RETURN_IF_ERROR(try_groups());
    double limit = input_.max_kl;  // of the text's beginning
    size_t least = 0;              // fewer wide groups are too few
    std::optional<AutoWeights> held;
    for (int round = 1;; ++round) {
      MOKA_ASSIGN_OR_RETURN(const size_t count, fewest(limit, least));
      if (held && count >= held->kept.size()) return std::move(*held);
      MOKA_ASSIGN_OR_RETURN(const Comparison whole, measure_whole(count));
      if (whole.kl_mean <= input_.max_kl) {
        held = choice(count, whole);
        if (count == least) return std::move(*held);
      } else {
        if (!held && count == groups_.size()) return too_strict(whole.kl_mean);
        least = count + 1;
      }
      if (held && round >= kRounds) return std::move(*held);
      // The whole text is harder or easier than its beginning by about this factor.
      const auto probed = probed_.find(count);
      if (whole.kl_mean > 0) {
        limit = (probed != probed_.end() ? probed->second : limit) * input_.max_kl / whole.kl_mean;
      }
    }
  }

 private:
  Status too_strict(double kl) const {
    return Status(StatusCode::kOutOfRange,
                  "--weights auto: KL on " + input_.text_words + " is to be at most " +
                      number(input_.max_kl) + " nats per token, but int8 throughout has " +
                      number(kl) + ": allow more with --max-kl, or use --weights f16");
  }

  std::set<std::string> names_of_first(size_t count) const {
    std::set<std::string> names;
    for (size_t i = 0; i < count; ++i) {
      names.insert(groups_[i].tensors.begin(), groups_[i].tensors.end());
    }
    return names;
  }

  AutoWeights choice(size_t count, const Comparison& whole) const {
    AutoWeights result;
    // Those that are int8 in both are no candidates, and wide as well.
    for (const Tensor& tensor : input_.narrow.tensors) {
      if (tensor.dtype == DType::kI8) result.wide.insert(tensor.name);
    }
    for (const std::string& name : names_of_first(count)) result.wide.insert(name);
    result.kept.assign(groups_.begin(), groups_.begin() + static_cast<ptrdiff_t>(count));
    result.groups = groups_.size();
    result.comparison = whole;
    return result;
  }

  Result<Comparison> measure(const std::set<std::string>& wide, uint64_t tokens,
                             const EvaluateProgress& progress) const {
    ModelSpec spec = mixed_spec(input_.narrow, input_.wide, wide);
    spec.tokenizer.reset();  // the reference's serves both
    MOKA_ASSIGN_OR_RETURN(const Model model, Model::from_spec(std::move(spec), input_.open));
    return compare_on_text(input_.reference, model, input_.text, progress, tokens);
  }

  // KL on the beginning of the text.
  Result<double> probe(const std::set<std::string>& wide, const char* stage, uint64_t done,
                       uint64_t total) const {
    Status told = progress_(stage, done, total);
    if (!told.ok()) return told;
    Result<Comparison> found = measure(wide, kProbeTokens, [&](uint64_t, uint64_t) {
      told = progress_(stage, done, total);
      return told.ok();
    });
    if (!told.ok()) return told;
    if (!found.ok()) return found.status();
    return found.value().kl_mean;
  }

  Result<Comparison> measure_whole(size_t count) const {
    Status told;
    Result<Comparison> found =
        measure(names_of_first(count), 0, [&](uint64_t done, uint64_t total) {
          told = progress_("measuring", done, total);
          return told.ok();
        });
    if (!told.ok()) return told;
    return found;
  }

  // What each group costs, and with it the order in which they become wide.
  Status try_groups() {
    const uint64_t trials = groups_.size() + 1;
    const std::set<std::string> all = names_of_first(groups_.size());
    MOKA_ASSIGN_OR_RETURN(const double floor, probe(all, "trying int4", 0, trials));
    for (size_t i = 0; i < groups_.size(); ++i) {
      std::set<std::string> wide = all;
      for (const std::string& name : groups_[i].tensors) wide.erase(name);
      MOKA_ASSIGN_OR_RETURN(const double kl, probe(wide, "trying int4", i + 1, trials));
      groups_[i].kl = std::max(0.0, kl - floor);
    }
    std::stable_sort(
        groups_.begin(), groups_.end(), [](const WeightGroup& a, const WeightGroup& b) {
          return a.kl * static_cast<double>(b.bytes) > b.kl * static_cast<double>(a.bytes);
        });
    return progress_("trying int4", trials, trials);
  }

  // The least number of groups, `least` or more, that holds `limit` on the beginning of the text;
  // all of them where none does. KL falls with every group that becomes wide, so halving finds it.
  Result<size_t> fewest(double limit, size_t least) {
    size_t low = least, high = groups_.size();
    uint64_t trials = 0, done = 0;
    for (size_t rest = high - low; rest > 0; rest /= 2) ++trials;
    while (low < high) {
      const size_t middle = low + (high - low) / 2;
      const auto known = probed_.find(middle);
      if (known == probed_.end()) {
        MOKA_ASSIGN_OR_RETURN(const double kl,
                              probe(names_of_first(middle), "choosing", done, trials));
        probed_[middle] = kl;
      }
      done = std::min(done + 1, trials);
      if (probed_[middle] <= limit) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  const AutoWeightsInput& input_;
  const AutoWeightsProgress& progress_;
  std::vector<WeightGroup> groups_;
  std::map<size_t, double> probed_;  // KL by the number of wide groups
};

}  // namespace

std::vector<WeightGroup> weight_groups(const ModelSpec& narrow, const ModelSpec& wide,
                                       size_t limit) {
  std::vector<size_t> candidates;
  std::set<uint32_t> layers;
  std::set<std::string> roles;  // of layers
  size_t others = 0;
  for (size_t i = 0; i < narrow.tensors.size(); ++i) {
    if (narrow.tensors[i].dtype == wide.tensors[i].dtype) continue;
    candidates.push_back(i);
    const Place place = place_of(narrow.tensors[i].name);
    others += !place.layer;
    if (!place.layer) continue;
    layers.insert(*place.layer);
    roles.insert(place.role);
  }
  const uint32_t last = layers.empty() ? 0 : *layers.rbegin();
  uint32_t joined = 1;  // layers that share a group
  while (others + roles.size() * (last / joined + 1) > limit && joined <= last) ++joined;
  std::vector<WeightGroup> groups;
  std::map<std::string, size_t> index;
  for (const size_t i : candidates) {
    const Place place = place_of(narrow.tensors[i].name);
    std::string name = place.role;
    if (place.layer) {
      const uint32_t first = *place.layer / joined * joined;
      const uint32_t end = std::min(first + joined - 1, last);
      name = "blocks." + std::to_string(first) +
             (end > first ? "-" + std::to_string(end) : std::string()) + " " + place.role;
    }
    const auto found = index.emplace(name, groups.size());
    if (found.second) groups.push_back({name, {}, 0, 0});
    WeightGroup& group = groups[found.first->second];
    group.tensors.push_back(narrow.tensors[i].name);
    group.bytes += wide.tensors[i].size + wide.tensors[i].scale_size - narrow.tensors[i].size -
                   narrow.tensors[i].scale_size;
  }
  return groups;
}

ModelSpec mixed_spec(const ModelSpec& narrow, const ModelSpec& wide,
                     const std::set<std::string>& names) {
  ModelSpec spec = narrow;
  for (size_t i = 0; i < spec.tensors.size(); ++i) {
    if (names.count(spec.tensors[i].name) != 0) spec.tensors[i] = wide.tensors[i];
  }
  return spec;
}

Result<AutoWeights> choose_weights(const AutoWeightsInput& input,
                                   const AutoWeightsProgress& progress) {
  return Search(input, progress).run();
}

}  // namespace moka
