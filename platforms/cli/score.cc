// `moka score`: how likely a language model finds a text.
#include <cmath>
#include <memory>
#include <string>

#include "platforms/cli/input.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"
#include "runtime/model_spec.h"

namespace moka::cli {
namespace {

const char kExamples[] =
    "  moka score stories.moka -p \"Once upon a time there was a girl.\"\n"
    "  moka score stories.moka chapter.txt --per-token\n"
    "  moka score stories.moka --context \"The sky is\" -p \" blue\"\n"
    "  moka score stories.moka --jsonl < in.jsonl | jq .perplexity\n";

std::string description() {
  return "Prints the log-likelihood of a text (natural logarithm; nearer to 0 is likelier), per "
         "token, the perplexity per token and the bits per byte. The text begins after the token "
         "that begins texts, where the model has one; otherwise its first token is not scored. "
         "With --context, the text is scored as what comes after that one, and the context is not "
         "scored; a token that reaches over the border counts as text. `moka eval` measures a "
         "whole collection.\n\n"
         "Each FILE is one input; without FILE and -p it is stdin. One newline at the end of a "
         "file is not part of the text; special tokens in it are plain text.\n\n" +
         json_lines_help(
             "{\"text\": \"...\"}, also with \"context\"; or {\"ids\": [...]}, whose "
             "first id is not scored",
             "log_likelihood, per_token, perplexity, tokens, bits_per_byte");
}

struct ScoreOptions {
  TaskOptions task;
  std::string context;
  bool per_token = false;
};

// Tokens to be scored, and the text that they stand for.
struct Passage {
  std::vector<TokenId> tokens;
  size_t first = 1;    // index of the first token that is scored
  uint64_t bytes = 0;  // of the text of the scored ones; 0: unknown
};

class Scorer {
 public:
  explicit Scorer(const Task& task) : task_(task) {}

  Result<Passage> passage_of(const std::string& text, const std::string& context,
                             const std::string& name) const;
  Result<Passage> passage_of(const Json& object) const;
  Json json_of(const Passage& passage, const Score& score, bool per_token) const;
  std::string page_of(const Passage& passage, const Score& score, bool per_token) const;

 private:
  const Task& task_;
};

Result<Passage> Scorer::passage_of(const std::string& text, const std::string& context,
                                   const std::string& name) const {
  MOKA_RETURN_IF_ERROR(check_text(task_.model(), text, name));
  const Tokenizer& tokenizer = task_.model().tokenizer();
  Passage passage;
  const TokenId begin = tokenizer.begin_id();
  if (begin >= 0) passage.tokens.push_back(begin);
  const size_t before = passage.tokens.size();
  const Status encoded = tokenizer.encode(context + text, &passage.tokens, false);
  if (!encoded.ok()) return Status(encoded.code(), name + ": " + encoded.message());
  passage.bytes = text.size();
  passage.first = before;
  if (!context.empty()) {
    // As far as the tokens are those of the context alone.
    std::vector<TokenId> alone;
    const Status status = tokenizer.encode(context, &alone, false);
    if (!status.ok()) return Status(status.code(), "context: " + status.message());
    for (const TokenId id : alone) {
      if (passage.first >= passage.tokens.size() || passage.tokens[passage.first] != id) break;
      passage.first++;
    }
  }
  if (passage.first == 0) {  // nothing stands before the first token
    passage.first = 1;
    const size_t piece = passage.tokens.empty() ? 0 : tokenizer.piece(passage.tokens[0]).size();
    passage.bytes -= std::min<uint64_t>(passage.bytes, piece);
  }
  if (passage.first >= passage.tokens.size()) {
    return Status(StatusCode::kInvalidArgument,
                  name + ": the text is one token, and nothing stands before it; give --context");
  }
  const size_t limit = task_.samples().token_limit();
  if (limit != 0 && passage.tokens.size() > limit + 1) {  // the last one is not read
    if (!task_.samples().truncates() || passage.first > limit) {
      return Status(StatusCode::kOutOfRange, name + ": " + with_commas(passage.tokens.size()) +
                                                 " tokens; the model reads at most " +
                                                 with_commas(limit) +
                                                 " (--truncate scores the start of a text)");
    }
    passage.tokens.resize(limit + 1);
    passage.bytes = 0;
    for (size_t i = passage.first; i < passage.tokens.size(); i++) {
      passage.bytes += tokenizer.piece(passage.tokens[i]).size();
    }
  }
  return passage;
}

Result<Passage> Scorer::passage_of(const Json& object) const {
  if (object.contains("ids")) {
    if (object.contains("context")) {
      return Status(StatusCode::kInvalidArgument,
                    "\"context\" goes with \"text\"; ids hold their own");
    }
    MOKA_ASSIGN_OR_RETURN(Sample sample, task_.samples().from_object(object));
    Passage passage;
    passage.tokens = std::move(sample.tokens);
    if (passage.tokens.size() < 2) {
      return Status(StatusCode::kInvalidArgument,
                    "\"ids\": one id; its first is not scored, so two are needed");
    }
    return passage;
  }
  if (!object.contains("text") || !object.at("text").is_string()) {
    return Status(StatusCode::kInvalidArgument,
                  object.contains("text") ? "\"text\": is not a string"
                                          : "the object has neither \"text\" nor \"ids\"");
  }
  std::string context;
  if (object.contains("context")) {
    if (!object.at("context").is_string()) {
      return Status(StatusCode::kInvalidArgument, "\"context\": is not a string");
    }
    context = object.at("context").get<std::string>();
  }
  return passage_of(object.at("text").get_ref<const std::string&>(), context, "\"text\"");
}

double per_token(const Score& score) {
  return score.log_likelihood / static_cast<double>(score.log_likelihoods.size());
}

double bits_per_byte(const Passage& passage, const Score& score) {
  return -score.log_likelihood / std::log(2.0) / static_cast<double>(passage.bytes);
}

std::string figure(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

Json Scorer::json_of(const Passage& passage, const Score& score, bool tokens) const {
  Json json = {{"log_likelihood", score.log_likelihood},
               {"per_token", per_token(score)},
               {"perplexity", std::exp(-per_token(score))},
               {"tokens", score.log_likelihoods.size()}};
  if (passage.bytes != 0) {
    json["bytes"] = passage.bytes;
    json["bits_per_byte"] = bits_per_byte(passage, score);
  }
  if (!tokens) return json;
  const Model& model = task_.model();
  json["per_token_scores"] = Json::array();
  for (size_t i = 0; i < score.log_likelihoods.size(); i++) {
    const TokenId id = passage.tokens[passage.first + i];
    Json one = {{"id", id},
                {"log_likelihood", score.log_likelihoods[i]},
                {"most_likely", score.most_likely[i]}};
    if (model.has_tokenizer()) {
      one["text"] = model.tokenizer().piece(id);
      one["most_likely_text"] = model.tokenizer().piece(score.most_likely[i]);
    }
    json["per_token_scores"].push_back(std::move(one));
  }
  return json;
}

// A token's bytes in quotes, so that spaces and ends of lines are seen.
std::string token_words(const Model& model, TokenId id) {
  if (!model.has_tokenizer()) return std::to_string(id);
  const std::string_view piece = model.tokenizer().piece(id);
  return Json(std::string(piece)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Scorer::page_of(const Passage& passage, const Score& score, bool tokens) const {
  std::string page;
  if (tokens) {
    Table table({{"log-likelihood", true}, {"id", true}, {"token"}, {"most likely"}});
    for (size_t i = 0; i < score.log_likelihoods.size(); i++) {
      const TokenId id = passage.tokens[passage.first + i];
      table.add({figure("%.4f", score.log_likelihoods[i]), std::to_string(id),
                 token_words(task_.model(), id), token_words(task_.model(), score.most_likely[i])});
    }
    page = printable(table.to_string()) + "\n";
  }
  page += "log-likelihood  " + figure("%.4f", score.log_likelihood) + "\n";
  page += "per token       " + figure("%.4f", per_token(score)) + "\n";
  page += "perplexity      " + figure("%.4f", std::exp(-per_token(score))) + "\n";
  if (passage.bytes != 0) {
    page += "bits per byte   " + figure("%.4f", bits_per_byte(passage, score)) + "\n";
  }
  return page + "tokens          " + with_commas(score.log_likelihoods.size()) + "\n";
}

Outcome score_command(const ScoreOptions& options) {
  if (options.task.jsonl && !options.context.empty()) {
    return Outcome::usage("--context: with --jsonl, each object has its own \"context\"");
  }
  Outcome outcome;
  const auto task = Task::open(options.task, "score", {OutputKind::kLanguage}, &outcome);
  if (!task) return outcome;
  const Model& model = task->model();
  if (!model.info().causal) {
    return {kExitUnsupported, options.task.model +
                                  ": the model sees the tokens that it would score; `moka score` "
                                  "needs a causal one"};
  }
  const Scorer scorer(*task);
  if (options.task.jsonl) {
    return run_json_lines(options.task.files, [&](const Json& object) -> Result<Json> {
      MOKA_ASSIGN_OR_RETURN(const Passage passage, scorer.passage_of(object));
      Sample memory;
      MOKA_ASSIGN_OR_RETURN(const ReadOptions read, task->read_options(object, &memory));
      MOKA_ASSIGN_OR_RETURN(const Score result, score(model, passage.tokens, passage.first, read));
      return scorer.json_of(passage, result, options.per_token);
    });
  }
  return task->for_each_source([&](const std::string& source, bool is_text) {
    const std::string name = is_text ? "--text" : source == "-" ? "standard input" : source;
    std::string text = source;
    if (!is_text) {
      MOKA_ASSIGN_OR_RETURN(text, read_text(source));
      text.resize(without_newline(text).size());
    }
    MOKA_ASSIGN_OR_RETURN(const Passage passage, scorer.passage_of(text, options.context, name));
    Progress bar("scoring", passage.tokens.size(), "tokens");
    ReadOptions read = task->read_options();
    read.progress = [&](double share) {
      bar.update(static_cast<uint64_t>(share * static_cast<double>(passage.tokens.size())));
    };
    const Result<Score> result = score(model, passage.tokens, passage.first, read);
    bar.clear();
    if (!result.ok()) {
      return Status(result.status().code(), name + ": " + result.status().message());
    }
    if (options.task.json) {
      Json json = {{"input", name}};
      json.update(scorer.json_of(passage, result.value(), options.per_token));
      write_output(json_line(json));
      return Status();
    }
    if (task->many_inputs()) write_output(printable(name) + "\n");
    write_output(scorer.page_of(passage, result.value(), options.per_token));
    if (task->many_inputs()) write_output("\n");
    return Status();
  });
}

}  // namespace

Verb add_score(CLI::App& moka) {
  auto options = std::make_shared<ScoreOptions>();
  CLI::App* app = add_verb(moka, "score", "Tell how likely a language model finds a text",
                           description(), kExamples, kJsonLinesExit);
  add_task_options(app, &options->task, "FILE", "Texts; - is stdin",
                   "One JSON object per input on stdout");
  app->add_option("--context", options->context, "What stands before the text; it is not scored")
      ->type_name("TEXT");
  app->add_flag("--per-token", options->per_token, "The log-likelihood of each token too");
  return {app, [options] { return score_command(*options); }};
}

}  // namespace moka::cli
