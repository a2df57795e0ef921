// `moka inspect`: what a model file holds and what it needs, from its header alone.
#include <unistd.h>

#include <memory>
#include <string>

#include "moka/moka.h"
#include "platforms/cli/describe.h"
#include "platforms/cli/json.h"
#include "platforms/cli/memory.h"
#include "platforms/cli/options.h"
#include "platforms/cli/terminal.h"
#include "runtime/checksum.h"
#include "runtime/loader.h"

namespace moka::cli {
namespace {

const char kDescription[] =
    "Shows architecture, tokenizer, licence, measured quality, recommended sampling, the exact "
    "memory of a session and the memory to run. Only the header is read, so a file of any size "
    "takes a moment. A valid model that this build cannot run is shown too, with the reason.";

const char kExamples[] =
    "  moka inspect stories.moka\n"
    "  moka inspect stories.moka --tensors\n"
    "  moka inspect stories.moka --memory 4GB\n"
    "  moka inspect stories.moka --json | jq .state.bytes\n";

struct InspectOptions {
  std::string model;
  bool tensors = false;
  bool json = false;
  uint64_t within = 0;  // bytes of memory to say the number of sessions for
};

// The file and what was found out about it.
struct Inspection {
  const LoadedModel& file;
  std::string path;
  Status supported;
  MemoryNeed memory;    // only when supported
  uint64_t within = 0;  // memory that is asked about
};

std::string stored_as(const Tensor& tensor) {
  std::string words = dtype_name(tensor.dtype);
  if (tensor.quantization == Quantization::kPerChannel) words += " per channel";
  if (tensor.quantization == Quantization::kPerBlock)
    words += " in blocks of " + std::to_string(tensor.block);
  if (tensor.quantization == Quantization::kTwoLevel)
    words += " per channel and block of " + std::to_string(tensor.block);
  if (tensor.layout == TensorLayout::kTiles) words += ", tiles";
  return words;
}

std::string layers_words(size_t first, size_t last) {
  if (first == last) return "layer " + std::to_string(first);
  return "layers " + std::to_string(first) + " to " + std::to_string(last);
}

std::string figure(const char* format, double value) {
  char text[48];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

// Bytes, of "4GiB", "1.5 GB" or "4096"; 0 for what is no size.
uint64_t parse_size(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string unit(end);
  unit.erase(0, unit.find_first_not_of(' ') == std::string::npos ? unit.size()
                                                                 : unit.find_first_not_of(' '));
  static const std::pair<const char*, double> kUnits[] = {
      {"", 1},      {"B", 1},        {"kB", 1e3},     {"KB", 1e3},     {"MB", 1e6},    {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  for (const auto& [name, factor] : kUnits) {
    const double bytes = number * factor;
    if (unit == name && bytes >= 1 && bytes < 0x1p63) return static_cast<uint64_t>(bytes);
  }
  return 0;
}

// Lines of "title  words", the words wrapped beside the title.
class Page {
 public:
  explicit Page(size_t width) : width_(width) {}
  void line(std::string title, const std::string& words) {
    if (words.empty()) return;
    title.resize(kTitle, ' ');
    text_ += title + wrap(words, width_, kTitle) + "\n";
  }
  void gap() { text_ += "\n"; }
  void add(const std::string& text) { text_ += text; }
  const std::string& text() const { return text_; }

 private:
  static constexpr size_t kTitle = 16;
  size_t width_;
  std::string text_;
};

std::string sampling_words(const SamplerOptions& s) {
  std::string words = "temperature " + short_number(s.temperature);
  if (s.top_k != 0) words += ", top-k " + std::to_string(s.top_k);
  if (s.top_p != 1.0f) words += ", top-p " + short_number(s.top_p);
  if (s.min_p != 0.0f) words += ", min-p " + short_number(s.min_p);
  if (s.repeat_penalty != 1.0f) {
    words += ", repeat penalty " + short_number(s.repeat_penalty) + " over " +
             std::to_string(s.repeat_window);
  }
  return words;
}

std::string measurement_words(const Measurement& m) {
  return figure("%.4f bits per byte", m.bits_per_byte) +
         figure(" (float32: %.4f)", m.bits_per_byte_float32) + ", KL " + figure("%.2e", m.kl_mean) +
         " nats per token, same first choice " + figure("%.2f%%", 100 * m.argmax_agreement) + "; " +
         m.text_name + ", " + with_commas(m.tokens) + " tokens";
}

void add_metadata(const ModelSpec& spec, Page* page) {
  const Metadata& m = spec.metadata;
  page->line("description", m.description);
  page->line("author", m.author);
  page->line("licence", m.license);
  std::string languages;
  for (const std::string& language : m.languages)
    languages += (languages.empty() ? "" : ", ") + language;
  page->line("languages", languages);
  page->line("training", m.training);
  if (m.trained_length != 0)
    page->line("", "trained on texts of " + with_commas(m.trained_length) + " tokens");
  page->line("quantised", m.quantization);
  if (m.measurement) page->line("measured", measurement_words(*m.measurement));
  if (m.sampling) page->line("sampling", sampling_words(*m.sampling));
  page->line("made by", m.converter);
  for (const SourceFile& file : m.source_files) {
    page->line("source",
               file.name + ", " + bytes_words(file.size) + ", XXH3 " + checksum_text(file.xxh3));
  }
  for (const KeyValue& extra : m.extra) page->line("extra", extra.key + ": " + extra.value);
}

void add_architecture(const ModelSpec& spec, Page* page) {
  page->line("input", input_words(spec));
  page->line("reads", reading_words(spec));
  page->line("positions", positions_words(spec.positions));
  page->line("width", with_commas(spec.width));
  const auto add_blocks = [&](const std::vector<Block>& blocks, const std::string& where) {
    for (const BlockRun& run : block_runs(spec, blocks)) {
      page->line(blocks.size() > 1 ? layers_words(run.first, run.last) : "layer",
                 where + run.mixer);
      page->line("", "feed-forward: " + run.feed_forward);
      page->line("", "norms: " + run.norms);
    }
  };
  if (spec.memory) add_blocks(spec.memory->blocks, "of the memory: ");
  add_blocks(spec.blocks, "");
  page->line("final norm", norm_words(spec.final_norm));
  page->line("head", head_words(spec));
  page->line("tokenizer", spec.tokenizer ? tokenizer_words(*spec.tokenizer) : "none");
}

void add_memory(const Inspection& in, Page* page) {
  if (!in.supported.ok()) {
    page->line("runs here", "no: " + in.supported.message());
    return;
  }
  const MemoryNeed& m = in.memory;
  std::string parts;
  const auto part = [&](const char* name, uint64_t bytes) {
    if (bytes != 0)
      parts += (parts.empty() ? "" : ", ") + std::string(name) + " " + with_commas(bytes);
  };
  part("latents", m.latents);
  part("windows", m.windows);
  part("recurrent fronts", m.fronts);
  part("pooling", m.pooling);
  if (!parts.empty()) parts = " (" + parts + ")";
  if (m.whole) {
    page->line("state", "none is kept: while a sequence is read, " + with_commas(m.per_step) +
                            " bytes for each of its steps");
  } else if (m.per_token != 0) {
    page->line(
        "state",
        "grows: " + with_commas(m.per_token) + " bytes for each token read" +
            (m.state == 0 ? "" : ", and " + with_commas(m.state) + " bytes per session" + parts) +
            "; softmax attention keeps every token");
  } else {
    page->line("state",
               with_commas(m.state) + " bytes per session, after any number of tokens" + parts);
  }
  page->line("memory", "about " + bytes_words(m.weights + m.state) + " to run: weights " +
                           bytes_words(m.weights) + ", state " + bytes_words(m.state) +
                           ", and some MB of working memory");
  if (in.within == 0) return;
  if (m.session == 0) {
    page->line("sessions", m.whole ? "none: the model reads whole sequences"
                                   : "how many fit depends on their length: they grow");
    return;
  }
  page->line("sessions", with_commas(sessions_within(m, in.within)) + " fit in " +
                             bytes_words(in.within) +
                             ", beside the weights: " + bytes_words(m.session) + " each");
}

std::string snapshot_words(const PrefixSnapshot& snapshot) {
  return snapshot.name + ", " + with_commas(snapshot.position) + " tokens, " +
         bytes_words(snapshot.size) + (snapshot.isa.empty() ? "" : ", made with " + snapshot.isa) +
         (snapshot.stale ? "; cannot be used: it was made with other weights" : "");
}

std::string tensor_table(const ModelSpec& spec, size_t width) {
  Table table({{"tensor"}, {"shape"}, {"stored as"}, {"bytes", true}});
  for (const Tensor& tensor : spec.tensors) {
    table.add({tensor.name, tensor.shape_string(), stored_as(tensor),
               with_commas(tensor.size + tensor.scale_size)});
  }
  return table.to_string(width);
}

std::string page_of(const Inspection& in, bool tensors) {
  const bool terminal = is_terminal(STDOUT_FILENO);
  const size_t width = terminal ? terminal_width(STDOUT_FILENO) : 100;
  const ModelSpec& spec = in.file.spec;
  Page page(width);
  page.line("file", in.path);
  page.line("name", spec.metadata.name);
  add_metadata(spec, &page);
  page.gap();
  add_architecture(spec, &page);
  page.gap();
  page.line("parameters", with_commas(count_parameters(spec)) + " in " +
                              with_commas(spec.tensors.size()) + " tensors, " +
                              bytes_words(count_weight_bytes(spec)));
  add_memory(in, &page);
  page.line("file size", with_commas(in.file.bytes.size()) + " bytes, format " +
                             std::to_string(in.file.format_version) + ", fingerprint " +
                             checksum_text(in.file.fingerprint));
  std::string features;
  for (const std::string& name : spec.required_features)
    features += (features.empty() ? "" : ", ") + name;
  page.line("needs", features);
  if (spec.test_vector) {
    page.line("test vector", std::to_string(spec.test_vector->prompt.size()) + " tokens, then " +
                                 std::to_string(spec.test_vector->expected.size()) +
                                 " (moka verify)");
  }
  for (const PrefixSnapshot& snapshot : spec.prefix_snapshots) {
    page.line("snapshot", snapshot_words(snapshot));
  }
  if (tensors) {
    page.gap();
    page.add(tensor_table(spec, terminal ? width : 0));
  }
  return printable(page.text());
}

Json blocks_json(const ModelSpec& spec, const std::vector<Block>& blocks) {
  Json json = Json::array();
  for (const BlockRun& run : block_runs(spec, blocks)) {
    json.push_back({{"first", run.first},
                    {"last", run.last},
                    {"mixer", run.mixer},
                    {"feed_forward", run.feed_forward},
                    {"norms", run.norms}});
  }
  return json;
}

Json metadata_json(const Metadata& m) {
  Json json = {{"name", m.name},
               {"description", m.description},
               {"license", m.license},
               {"author", m.author},
               {"languages", m.languages},
               {"training", m.training},
               {"trained_length", m.trained_length},
               {"converter", m.converter},
               {"quantization", m.quantization}};
  json["source_files"] = Json::array();
  for (const SourceFile& file : m.source_files) {
    json["source_files"].push_back(
        {{"name", file.name}, {"bytes", file.size}, {"xxh3", checksum_text(file.xxh3)}});
  }
  if (m.measurement) {
    json["measurement"] = {{"text", m.measurement->text_name},
                           {"text_bytes", m.measurement->text_bytes},
                           {"tokens", m.measurement->tokens},
                           {"bits_per_byte", m.measurement->bits_per_byte},
                           {"bits_per_byte_float32", m.measurement->bits_per_byte_float32},
                           {"kl_mean", m.measurement->kl_mean},
                           {"kl_max", m.measurement->kl_max},
                           {"argmax_agreement", m.measurement->argmax_agreement}};
  }
  if (m.sampling) {
    json["sampling"] = {{"temperature", m.sampling->temperature},
                        {"top_k", m.sampling->top_k},
                        {"top_p", m.sampling->top_p},
                        {"min_p", m.sampling->min_p},
                        {"repeat_penalty", m.sampling->repeat_penalty},
                        {"repeat_window", m.sampling->repeat_window}};
  }
  json["extra"] = Json::object();
  for (const KeyValue& extra : m.extra) json["extra"][extra.key] = extra.value;
  return json;
}

Json json_of(const Inspection& in) {
  const ModelSpec& spec = in.file.spec;
  Json json = {{"file", in.path},
               {"file_bytes", in.file.bytes.size()},
               {"format_version", in.file.format_version},
               {"fingerprint", checksum_text(in.file.fingerprint)},
               {"supported", in.supported.ok()}};
  if (!in.supported.ok()) json["unsupported_reason"] = in.supported.message();
  json["required_features"] = spec.required_features;
  json["metadata"] = metadata_json(spec.metadata);
  json["width"] = spec.width;
  json["layers"] = spec.blocks.size();
  json["input"] = input_words(spec);
  json["positions"] = positions_words(spec.positions);
  json["reads"] = reading_words(spec);
  json["blocks"] = blocks_json(spec, spec.blocks);
  if (spec.memory) json["memory_blocks"] = blocks_json(spec, spec.memory->blocks);
  json["head"] = head_words(spec);
  if (!labels_of(spec).empty()) json["labels"] = labels_of(spec);
  if (pad_id_of(spec) >= 0) json["pad_id"] = pad_id_of(spec);
  json["tokenizer"] = spec.tokenizer ? Json(tokenizer_words(*spec.tokenizer)) : Json();
  json["parameters"] = count_parameters(spec);
  json["weight_bytes"] = count_weight_bytes(spec);
  if (in.supported.ok()) {
    json["state"] = {{"bytes", in.memory.state},           {"latent_bytes", in.memory.latents},
                     {"window_bytes", in.memory.windows},  {"front_bytes", in.memory.fronts},
                     {"pooling_bytes", in.memory.pooling}, {"bytes_per_token", in.memory.per_token},
                     {"whole_sequences", in.memory.whole}, {"bytes_per_step", in.memory.per_step}};
    json["memory_bytes_about"] = in.memory.weights + in.memory.state;
    if (in.within != 0) {
      json["sessions"] = {{"memory_bytes", in.within},
                          {"bytes_each", in.memory.session},
                          {"fit", sessions_within(in.memory, in.within)}};
    }
  }
  json["snapshots"] = Json::array();
  for (const PrefixSnapshot& snapshot : spec.prefix_snapshots) {
    json["snapshots"].push_back({{"name", snapshot.name},
                                 {"tokens", snapshot.position},
                                 {"bytes", snapshot.size},
                                 {"isa", snapshot.isa},
                                 {"usable", !snapshot.stale}});
  }
  json["tensors"] = Json::array();
  for (const Tensor& tensor : spec.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"shape", tensor.shape},
                               {"dtype", dtype_name(tensor.dtype)},
                               {"stored_as", stored_as(tensor)},
                               {"tiles", tensor.layout == TensorLayout::kTiles},
                               {"bytes", tensor.size + tensor.scale_size}});
  }
  return json;
}

Outcome inspect(const InspectOptions& options) {
  Result<LoadedModel> loaded = load_model_file(options.model);
  if (!loaded.ok()) return Outcome::of_arguments(loaded.status());
  Inspection inspection{loaded.value(),
                        options.model,
                        check_supported(loaded.value().spec, options.model),
                        {},
                        options.within};
  if (inspection.supported.ok()) {
    MOKA_ASSIGN_OR_RETURN(inspection.memory, memory_need(loaded.value().spec));
  }
  write_output(options.json ? json_document(json_of(inspection))
                            : page_of(inspection, options.tensors));
  return {};
}

}  // namespace

Verb add_inspect(CLI::App& moka) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* app = add_verb(moka, "inspect", "Show what a model file holds and needs", kDescription,
                           kExamples, "Showing a model that this build cannot run is success.\n");
  add_model_argument(app, &options->model);
  app->add_flag("--tensors", options->tensors, "List the tensors too");
  app->add_option_function<std::string>(
         "--memory",
         [options](const std::string& text) {
           options->within = parse_size(text);
           if (options->within != 0) return;
           throw CLI::ValidationError("--memory", "'" + text +
                                                      "' is no size; a number above 0 with or "
                                                      "without a unit is, as in 512MB or 4GiB");
         },
         "Say how many sessions fit in so much memory, as in 512MB or 4GiB")
      ->type_name("SIZE");
  add_json_flag(app, &options->json, "One JSON object on stdout, tensors included");
  return {app, [options] { return inspect(*options); }};
}

}  // namespace moka::cli
