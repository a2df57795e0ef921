// Plans and reports as words and as JSON.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "converter/convert.h"
#include "nlohmann/json.hpp"

namespace moka {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kAnd = " + ";  // between the sources of a PlannedTensor

// Names come from files of unknown origin; bytes that are not UTF-8 must not end the program.
std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

std::string size_words(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1000000000) return format("%.2f GB", value / 1e9);
  if (bytes >= 1000000) return format("%.2f MB", value / 1e6);
  if (bytes >= 1000) return format("%.1f kB", value / 1e3);
  return std::to_string(bytes) + " B";
}

std::string count_words(uint64_t count) {
  const auto value = static_cast<double>(count);
  if (count >= 1000000000) return format("%.2f G", value / 1e9);
  if (count >= 1000000) return format("%.2f M", value / 1e6);
  if (count >= 1000) return format("%.1f k", value / 1e3);
  return std::to_string(count);
}

std::string shape_words(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

// Control characters of a name must not reach a terminal.
std::string printable(const std::string& text) {
  std::string out = text;
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

// Columns as wide as their widest cell; the last one is not padded.
std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 2, ' ');
    }
    text += "\n";
  }
  return text;
}

std::string note_lines(const std::vector<std::string>& notes) {
  std::string text;
  for (const std::string& note : notes) text += "note: " + printable(note) + "\n";
  return text;
}

Json measurement_json(const Measurement& m) {
  return {{"text", m.text_name},
          {"text_bytes", m.text_bytes},
          {"tokens", m.tokens},
          {"bits_per_byte", m.bits_per_byte},
          {"bits_per_byte_float32", m.bits_per_byte_float32},
          {"kl_mean", m.kl_mean},
          {"kl_max", m.kl_max},
          {"argmax_agreement", m.argmax_agreement}};
}

// What stays int8 where most is int4, and why.
std::string kept_words(const ConvertReport& report) {
  if (report.weights != WeightType::kAuto) return "";
  const std::string summary = std::to_string(report.candidates - report.kept_wide.size()) + " of " +
                              std::to_string(report.candidates) + " groups of matrices are int4";
  if (report.kept_wide.empty()) return summary + "\n";
  std::vector<std::vector<std::string>> rows = {{summary + "; int8:", "KL as int4", "bytes more"}};
  for (const KeptWide& kept : report.kept_wide) {
    rows.push_back({"  " + printable(kept.name), format("%.2g", kept.kl), size_words(kept.bytes)});
  }
  return table(rows);
}

// The tensors that lose most, worst first; none that lose nothing.
std::vector<TensorError> worst(const std::vector<TensorError>& tensors, size_t count) {
  std::vector<TensorError> sorted;
  for (const TensorError& tensor : tensors) {
    if (tensor.error.max_abs > 0) sorted.push_back(tensor);
  }
  std::stable_sort(sorted.begin(), sorted.end(), [](const TensorError& a, const TensorError& b) {
    return a.error.relative_rms() > b.error.relative_rms();
  });
  if (sorted.size() > count) sorted.resize(count);
  return sorted;
}

}  // namespace

std::string plan_text(const ConversionPlan& plan) {
  std::vector<std::vector<std::string>> rows = {
      {"source", "shape", "type", "->", "stored as", "type", "bytes", "what is done"}};
  for (const PlannedTensor& t : plan.tensors) {
    // Further sources stand below the first, so that no line holds four names.
    const size_t end = t.source.find(kAnd);
    rows.push_back({printable(t.source.substr(0, end)), shape_words(t.source_shape), t.source_type,
                    "->", printable(t.target), dtype_name(t.stored), std::to_string(t.stored_bytes),
                    t.transform});
    for (size_t at = end; at != std::string::npos;) {
      const size_t next = t.source.find(kAnd, at + 1);
      const size_t begin = at + std::string(kAnd).size();
      rows.push_back({"+ " + printable(t.source.substr(begin, next - begin))});
      at = next;
    }
  }
  return table(rows) + "\n" +
         table({{"input", printable(plan.input)},
                {"model", plan.architecture},
                {"tensors", std::to_string(plan.tensors.size())},
                {"parameters", count_words(plan.parameters)},
                {"weights", std::string(weight_type_name(plan.weights)) + ", " +
                                size_words(plan.source_bytes) + " -> " +
                                size_words(plan.stored_bytes)}}) +
         note_lines(plan.notes);
}

std::string plan_json(const ConversionPlan& plan) {
  Json tensors = Json::array();
  for (const PlannedTensor& t : plan.tensors) {
    tensors.push_back({{"source", t.source},
                       {"source_type", t.source_type},
                       {"source_shape", t.source_shape},
                       {"source_bytes", t.source_bytes},
                       {"target", t.target},
                       {"transform", t.transform},
                       {"stored", dtype_name(t.stored)},
                       {"stored_bytes", t.stored_bytes}});
  }
  return dump({{"input", plan.input},
               {"architecture", plan.architecture},
               {"weights", weight_type_name(plan.weights)},
               {"parameters", plan.parameters},
               {"source_bytes", plan.source_bytes},
               {"stored_bytes", plan.stored_bytes},
               {"tensors", tensors},
               {"notes", plan.notes}});
}

std::string report_text(const ConvertReport& report) {
  std::vector<std::vector<std::string>> rows = {
      {"output", printable(report.output) + ", " + size_words(report.file_bytes)},
      {"model", report.architecture},
      {"parameters", count_words(report.parameters)},
      {"weights",
       std::string(weight_type_name(report.weights)) + ", from " + size_words(report.source_bytes)},
  };
  if (report.measurement) {
    const Measurement& m = *report.measurement;
    rows.push_back({"measured on", printable(m.text_name) + ", " + size_words(m.text_bytes) + ", " +
                                       std::to_string(m.tokens) + " tokens"});
    rows.push_back({"bits per byte", format("%.5f", m.bits_per_byte) + " (float32: " +
                                         format("%.5f", m.bits_per_byte_float32) + ")"});
    rows.push_back({"KL from float32", format("%.3g", m.kl_mean) + " nats per token, at most " +
                                           format("%.3g", m.kl_max)});
    rows.push_back({"same best token", format("%.3f %%", 100 * m.argmax_agreement)});
  }
  if (report.test_vector) {
    rows.push_back({"test vector", std::to_string(report.test_vector->expected.size()) +
                                       " tokens after a prompt of " +
                                       std::to_string(report.test_vector->prompt.size())});
  }
  rows.push_back({"time", format("%.1f s", report.seconds)});
  std::string text = table(rows) + kept_words(report);
  const std::vector<TensorError> losers = worst(report.tensors, 3);
  if (!losers.empty()) {
    std::vector<std::vector<std::string>> errors = {
        {"largest rounding errors", "relative rms", "largest"}};
    for (const TensorError& t : losers) {
      errors.push_back({"  " + printable(t.tensor), format("%.3g", t.error.relative_rms()),
                        format("%.3g", t.error.max_abs)});
    }
    text += table(errors);
  }
  return text + note_lines(report.notes);
}

std::string report_json(const ConvertReport& report) {
  Json tensors = Json::array();
  for (const TensorError& t : report.tensors) {
    tensors.push_back({{"tensor", t.tensor},
                       {"stored", dtype_name(t.stored)},
                       {"relative_rms", t.error.relative_rms()},
                       {"max_abs", t.error.max_abs}});
  }
  Json json = {{"output", report.output},
               {"architecture", report.architecture},
               {"weights", weight_type_name(report.weights)},
               {"parameters", report.parameters},
               {"source_bytes", report.source_bytes},
               {"file_bytes", report.file_bytes},
               {"seconds", report.seconds},
               {"measurement", nullptr},
               {"test_vector", nullptr},
               {"tensors", tensors},
               {"notes", report.notes}};
  if (report.weights == WeightType::kAuto) {
    json["candidates"] = report.candidates;
    json["kept_int8"] = Json::array();
    for (const KeptWide& kept : report.kept_wide) {
      json["kept_int8"].push_back({{"group", kept.name},
                                   {"tensors", kept.tensors},
                                   {"kl_as_int4", kept.kl},
                                   {"bytes_more", kept.bytes}});
    }
  }
  if (report.measurement) json["measurement"] = measurement_json(*report.measurement);
  if (report.test_vector) {
    json["test_vector"] = {{"prompt", report.test_vector->prompt},
                           {"expected", report.test_vector->expected}};
  }
  return dump(json);
}

}  // namespace moka
