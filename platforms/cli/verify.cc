// `moka verify`: is a model file whole, and does it compute here what it computed when it was made?
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "converter/snapshot.h"
#include "moka/moka.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/json.h"
#include "platforms/cli/options.h"
#include "platforms/cli/terminal.h"
#include "runtime/loader.h"

namespace moka::cli {
namespace {

const char kDescription[] =
    "Checks the header, then the checksum of every section of the file, then that scales and sums "
    "of quantised matrices are right, then runs the test "
    "vector that was stored when the file was made: a prompt and the most likely tokens after "
    "it. At last each prefix snapshot is compared with reading its tokens again. With the compute "
    "kernels that made it, all bits of the state are the same; other kernels round otherwise, and "
    "then the numbers of output behind the prefix, and behind 8 tokens after it, must agree within "
    "0.01, or 0.1 where matrices are int8 or int4.";

const char kExamples[] =
    "  moka verify stories.moka\n"
    "  moka verify stories.moka --json | jq .test_vector.status\n";

const char kExitNotes[] =
    "A wrong checksum ends with 3, another continuation of the test vector, or a\n"
    "snapshot that differs, with 1.\n";

struct VerifyOptions {
  std::string model;
  int threads = 0;
  bool json = false;
};

std::string percent(double share) { return short_number(100 * share) + " %"; }

std::string ids_words(const std::vector<TokenId>& ids) {
  std::string words;
  for (TokenId id : ids) words += (words.empty() ? "" : " ") + std::to_string(id);
  return words;
}

// The most likely tokens after the prompt, as many as are expected.
Result<std::vector<TokenId>> greedy_continuation(const Model& model, const TestVector& test) {
  SamplerOptions greedy;
  greedy.temperature = 0.0f;
  MOKA_ASSIGN_OR_RETURN(Sampler sampler, Sampler::create(greedy, model.info().outputs));
  MOKA_ASSIGN_OR_RETURN(Session session, model.new_session());
  const CancelOnInterrupt cancel(&session);
  MOKA_RETURN_IF_ERROR(session.append(test.prompt));
  std::vector<TokenId> ids;
  while (ids.size() < test.expected.size()) {
    MOKA_ASSIGN_OR_RETURN(const TokenId id, session.step(sampler));
    ids.push_back(id);
  }
  return ids;
}

class Verification {
 public:
  explicit Verification(const VerifyOptions& options) : options_(options) {}

  Outcome run() {
    Outcome outcome = check();
    if (options_.json) {
      report_["ok"] = outcome.exit_code == kExitOk;
      write_output(json_document(report_));
    }
    return outcome;
  }

 private:
  void line(const std::string& what, const std::string& words) {
    if (options_.json) return;
    std::string title = what;
    title.resize(12, ' ');
    write_output(title + "  " + words + "\n");
  }

  Outcome check();
  Status check_tiles(const LoadedModel& file);
  Outcome check_test_vector(const ModelSpec& spec);
  Outcome check_snapshots(const ModelSpec& spec);
  Outcome check_snapshot_of(const Model& model, const PrefixSnapshot& snapshot, Json* report);
  // Opened when it is first asked for.
  const OpenedModel& opened_model() {
    if (!opened_) opened_ = open_model(options_.model, options_.threads);
    return *opened_;
  }

  const VerifyOptions& options_;
  std::optional<OpenedModel> opened_;
  Json report_;
};

Outcome Verification::check() {
  report_ = {{"model", options_.model}, {"ok", false}, {"header", "failed"}};
  Result<LoadedModel> loaded = load_model_file(options_.model);
  if (!loaded.ok()) return Outcome::of_arguments(loaded.status());
  const LoadedModel& file = loaded.value();
  report_["header"] = "ok";
  report_["checksums"] = "failed";
  line("header", "ok, format " + std::to_string(file.format_version) + ", " +
                     std::to_string(file.spec.tensors.size()) + " tensors");
  {
    Progress bar("checking", file.data_size, "bytes");
    MOKA_RETURN_IF_ERROR(verify_data(file, options_.model, [&](uint64_t done, uint64_t) {
      bar.update(done);
      return interrupted() ? Status(StatusCode::kCancelled, "") : Status();
    }));
  }
  report_["checksums"] = "ok";
  report_["sections"] = Json::array();
  for (const Section& section : file.sections) {
    report_["sections"].push_back({{"kind", section_name(section.kind)}, {"bytes", section.size}});
    line("checksum",
         std::string("ok, ") + section_name(section.kind) + ", " + bytes_words(section.size));
  }
  MOKA_RETURN_IF_ERROR(check_tiles(file));
  Outcome outcome = check_test_vector(file.spec);
  if (outcome.exit_code != kExitOk) return outcome;
  return check_snapshots(file.spec);
}

Status Verification::check_tiles(const LoadedModel& file) {
  uint64_t matrices = 0, bytes = 0;
  for (const Tensor& tensor : file.spec.tensors) {
    if (tensor.layout != TensorLayout::kTiles) continue;
    ++matrices;
    bytes += tensor.size;
  }
  report_["tiles"] = matrices == 0 ? "absent" : "failed";
  if (matrices == 0) return Status();
  {
    Progress bar("checking", bytes, "bytes");
    MOKA_RETURN_IF_ERROR(verify_tiles(file, options_.model, [&](uint64_t done, uint64_t) {
      bar.update(done);
      return interrupted() ? Status(StatusCode::kCancelled, "") : Status();
    }));
  }
  report_["tiles"] = "ok";
  line("tiles", "ok, scales and sums of " + std::to_string(matrices) + " matrices");
  return Status();
}

Outcome Verification::check_test_vector(const ModelSpec& spec) {
  Json& report = report_["test_vector"];
  report = {{"status", "absent"}};
  if (!spec.test_vector) {
    line("test vector", "none in the file");
    return {};
  }
  const TestVector& test = *spec.test_vector;
  report = {{"status", "unsupported"}, {"prompt", test.prompt}, {"expected", test.expected}};
  const OpenedModel& opened = opened_model();
  if (!opened.model) {
    line("test vector", "not run");
    return opened.outcome;
  }
  report["status"] = "failed";
  report["isa"] = opened.model->info().isa;
  Result<std::vector<TokenId>> found = greedy_continuation(*opened.model, test);
  if (!found.ok()) return found.status();
  report["found"] = found.value();
  if (found.value() == test.expected) {
    report["status"] = "ok";
    line("test vector", "ok, " + std::to_string(test.expected.size()) +
                            " tokens after a prompt of " + std::to_string(test.prompt.size()) +
                            ", on " + opened.model->info().isa);
    return {};
  }
  report["status"] = "different";
  line("test vector", "different");
  return {
      kExitFailure,
      options_.model + ": the test vector goes on differently here\n  prompt    " +
          ids_words(test.prompt) + "\n  expected  " + ids_words(test.expected) + "\n  found     " +
          ids_words(found.value()) +
          "\nThe file is as it was written: its checksums are right. Kernels (here: " +
          opened.model->info().isa +
          ") may round\ndifferently, and where two tokens are almost equally likely the other "
          "one can win.\nTry MOKA_ISA=scalar: if even the first token differs there, this build "
          "is wrong."};
}

Outcome Verification::check_snapshots(const ModelSpec& spec) {
  if (spec.prefix_snapshots.empty()) return {};
  Json& report = report_["snapshots"];
  report = Json::array();
  const OpenedModel& opened = opened_model();
  if (!opened.model) {
    line("snapshots", "not run");
    return opened.outcome;
  }
  for (const PrefixSnapshot& snapshot : opened.model->spec().prefix_snapshots) {
    report.push_back({{"name", snapshot.name}, {"status", "failed"}});
    const Outcome outcome = check_snapshot_of(*opened.model, snapshot, &report.back());
    if (outcome.exit_code != kExitOk) return outcome;
  }
  return {};
}

Outcome Verification::check_snapshot_of(const Model& model, const PrefixSnapshot& snapshot,
                                        Json* report) {
  SnapshotOptions how;
  Result<SnapshotCheck> result = [&] {
    Progress bar("reading '" + snapshot.name + "'", snapshot.position, "tokens");
    how.progress = [&bar](uint64_t done, uint64_t) {
      bar.update(done);
      return !interrupted();
    };
    const HoldSignals hold;  // it starts threads
    return check_snapshot(model, snapshot, how);
  }();
  if (!result.ok()) {
    const Status& status = result.status();
    if (status.code() == StatusCode::kCancelled) return status;
    line("snapshot", snapshot.name + ": cannot be used");
    return {status.code() == StatusCode::kOutOfMemory ? kExitOutOfMemory : kExitFailure,
            options_.model + ": " + status.message()};
  }
  const SnapshotCheck& check = result.value();
  const std::string isa = model.info().isa;
  (*report)["status"] = check.same_bits ? "same_bits" : check.ok() ? "ok" : "different";
  (*report)["difference_percent"] = 100 * check.difference;
  (*report)["allowed_percent"] = 100 * check.tolerance;
  const std::string kernels = snapshot.isa == isa
                                  ? "made and read with " + isa
                                  : "made with " + snapshot.isa + ", read with " + isa;
  if (check.ok()) {
    line("snapshot",
         snapshot.name + ": ok, " + with_commas(snapshot.position) + " tokens, " +
             (check.same_bits ? "same bits" : "outputs differ by " + percent(check.difference)) +
             ", " + kernels);
    return {};
  }
  line("snapshot", snapshot.name + ": different");
  return {kExitFailure, options_.model + ": prefix snapshot '" + snapshot.name +
                            "' is not what reading its tokens gives here: outputs differ by " +
                            percent(check.difference) + " (root mean square), " +
                            percent(check.tolerance) + " is allowed (" + kernels +
                            ").\nMake it anew: moka snapshot add --force"};
}

}  // namespace

Verb add_verify(CLI::App& moka) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* app = add_verb(moka, "verify", "Check a model file and what it computes", kDescription,
                           kExamples, kExitNotes);
  add_model_argument(app, &options->model);
  add_threads_option(app, &options->threads);
  add_json_flag(app, &options->json, "One JSON object on stdout, also when a check fails");
  return {app, [options] { return Verification(*options).run(); }};
}

}  // namespace moka::cli
