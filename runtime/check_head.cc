// The checks of heads: what a model gives out.
#include <string>

#include "runtime/features.h"
#include "runtime/spec_checker.h"

namespace moka {

Status SpecChecker::check_head() {
  place_ = std::string("head (") + member_name(spec_.head) + ")";
  return std::visit([this](const auto& head) { return check_head_member(head); }, spec_.head);
}

Status SpecChecker::check_labels(const std::vector<std::string>& labels, uint64_t classes) const {
  return require(labels.empty() || labels.size() == classes,
                 "there are " + std::to_string(labels.size()) + " labels, expected none or " +
                     std::to_string(classes) + ", one per class");
}

// A pad id outside the vocabulary, such as -100, marks models whose inputs are never padded.
Status SpecChecker::check_pad_id(TokenId pad_id) const {
  const uint32_t vocabulary = vocab_size();
  return require(vocabulary == 0 || pad_id < 0 || static_cast<uint32_t>(pad_id) < vocabulary,
                 "pad_id is " + std::to_string(pad_id) + ", but the vocabulary has " +
                     std::to_string(vocabulary) + " ids");
}

Status SpecChecker::check_head_member(const LanguageHead& head) {
  const uint64_t rows = vocab_size() != 0 ? vocab_size() : rows_of(head.projection);
  MOKA_RETURN_IF_ERROR(linear("projection", head.projection, {rows, "vocabulary"}, width()));
  return range("the number of outputs", rows, 1, kMaxVocab);
}

Status SpecChecker::check_head_member(const ClassifierHead& head) {
  const Extent classes{rows_of(head.projection), "classes"};
  MOKA_RETURN_IF_ERROR(linear("projection", head.projection, classes, width()));
  MOKA_RETURN_IF_ERROR(range("the number of classes", classes.value, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(check_labels(head.labels, classes.value));
  return check_pad_id(head.pad_id);
}

Status SpecChecker::check_head_member(const PairHead& head) {
  const Extent hidden{rows_of(head.hidden), "hidden width"};
  const Extent classes{rows_of(head.projection), "classes"};
  MOKA_RETURN_IF_ERROR(
      linear("hidden", head.hidden, hidden, {uint64_t{4} * spec_.width, "4 x width"}));
  MOKA_RETURN_IF_ERROR(range("the hidden width", hidden.value, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(linear("projection", head.projection, classes, hidden));
  MOKA_RETURN_IF_ERROR(range("the number of classes", classes.value, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(check_labels(head.labels, classes.value));
  return check_pad_id(head.pad_id);
}

Status SpecChecker::check_head_member(const RegressionHead& head) {
  MOKA_RETURN_IF_ERROR(range("outputs", head.outputs, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(range("steps", head.steps, 1, kMaxWidth));
  const size_t count = head.quantiles.size();
  MOKA_RETURN_IF_ERROR(range("the number of quantiles", count, 0, kMaxConvTaps));
  float last = 0;
  for (const float quantile : head.quantiles) {
    MOKA_RETURN_IF_ERROR(require(quantile > last && quantile < 1,
                                 "quantiles must rise from above 0 to below 1, but " +
                                     std::to_string(quantile) + " follows " +
                                     std::to_string(last)));
    last = quantile;
  }
  const Extent rows{uint64_t{head.steps} * head.outputs * (count == 0 ? 1 : count),
                    "steps x outputs x quantiles"};
  MOKA_RETURN_IF_ERROR(linear("projection", head.projection, rows, width()));
  MOKA_RETURN_IF_ERROR(range("the numbers of a row", rows.value, 1, kMaxWidth));
  return scaling(head.mean, head.deviation, head.outputs, "output");
}

Status SpecChecker::check_head_member(const EmbeddingHead& head) {
  return check_pad_id(head.pad_id);
}

}  // namespace moka
