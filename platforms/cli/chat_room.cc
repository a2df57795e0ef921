#include "platforms/cli/chat_room.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "platforms/cli/interrupt.h"
#include "platforms/cli/options.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr size_t kShownBytes = 60;    // of a turn's text in /turns
constexpr size_t kRecallBytes = 240;  // of the text before, when a chat goes on

Status wrong(const std::string& words) { return Status(StatusCode::kInvalidArgument, words); }

// The start of a text on one line.
std::string first_words(const std::string& text) {
  std::string words = first_bytes(text, kShownBytes);
  for (char& c : words) {
    if (c == '\n' || c == '\t' || c == '\r') c = ' ';
  }
  return words;
}

const char* role_name(Role role) {
  switch (role) {
    case Role::kSystem: return "system";
    case Role::kUser: return "user";
    default: return "model";
  }
}

Json turn_json(const Chat& chat, const Turn& turn) {
  return {{"turn", turn.id},
          {"parent", turn.parent},
          {"role", role_name(turn.role)},
          {"end", turn_end_name(turn.end)},
          {"text", turn.text},
          {"tokens", turn.tokens.size()},
          {"position", turn.position},
          {"current", turn.id == chat.current()},
          {"kept", chat.is_kept(turn.id)}};
}

}  // namespace

const char kChatCommands[] =
    "  /undo            take the last text and the answer to it back\n"
    "  /retry           let the model write its last turn anew\n"
    "  /edit N TEXT     another text instead of turn N, and the answer to it\n"
    "  /branch N TEXT   go on behind turn N with TEXT\n"
    "  /turns           all turns: number, which one they follow, text\n"
    "  /switch N        to turn N, of any branch; 0 is the start\n"
    "  /remove N        forget turn N and all that follow it\n"
    "  /save [FILE]     save the chat (without FILE: to the one of --session)\n"
    "  /open FILE       go on with a saved chat; with --session it is kept there from now on\n"
    "  /help, /quit\n"
    "  //...            a text that begins with a slash\n";

struct ChatRoom::Command {
  const char* name;
  Status (ChatRoom::*run)(const std::string& rest);
};

const ChatRoom::Command ChatRoom::kCommands[] = {
    {"undo", &ChatRoom::undo},     {"retry", &ChatRoom::retry}, {"edit", &ChatRoom::edit},
    {"branch", &ChatRoom::branch}, {"turns", &ChatRoom::turns}, {"switch", &ChatRoom::switch_to},
    {"remove", &ChatRoom::remove}, {"save", &ChatRoom::save},   {"open", &ChatRoom::open},
    {"help", &ChatRoom::help},     {"quit", &ChatRoom::quit},
};

ChatRoom::ChatRoom(const Model& model, Chat chat, const ChatOptions& chat_options,
                   const ChatRoomOptions& options)
    : model_(model), chat_(std::move(chat)), chat_options_(chat_options), options_(options) {}

bool ChatRoom::print(std::string_view text) {
  if (!write_output(text)) return false;
  if (!text.empty()) line_open_ = text.back() != '\n';
  return true;
}

void ChatRoom::end_line() {
  if (line_open_) print("\n");
}

Status ChatRoom::take(const std::string& line) {
  if (line.rfind("//", 0) == 0) return say_text(line.substr(1));
  if (line.rfind("/", 0) == 0) return command(line);
  return say_text(line);
}

Status ChatRoom::command(const std::string& line) {
  const size_t space = line.find(' ');
  const std::string name = line.substr(1, space == std::string::npos ? space : space - 1);
  const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
  std::vector<std::string> known;
  for (const Command& command : kCommands) {
    if (name == command.name) return (this->*command.run)(rest);
    known.emplace_back(command.name);
  }
  const std::string guess = closest(name, known);
  return wrong("there is no command '/" + name + "'" +
               (guess.empty() ? "; /help shows them" : "; did you mean '/" + guess + "'?"));
}

// ---- turns -------------------------------------------------------------------------------------

// An empty text lets the model go on by itself.
Status ChatRoom::say_text(const std::string& text) {
  if (!text.empty()) MOKA_RETURN_IF_ERROR(given(chat_.append(Role::kUser, text)));
  return write(false);
}

Status ChatRoom::given(const Result<ChatStep>& step) {
  if (!step.ok()) return step.status();
  tell_read_again(step.value());
  if (options_.json) {
    Json json = {{"type", "given"}};
    json.update(turn_json(chat_, *chat_.find(step.value().turn)));
    json["tokens_read_again"] = step.value().tokens_read_again;
    print(json_line(json));
  }
  return save_session();
}

Status ChatRoom::write(bool anew) {
  GenerateOptions how = options_.writing;
  how.on_text = [this](std::string_view text) {
    const bool printed =
        print(options_.json ? json_line({{"type", "text"}, {"text", text}}) : std::string(text));
    return printed && !interrupted();  // what is on the screen stays in the chat
  };
  const Result<ChatStep> step = anew ? chat_.regenerate(how) : chat_.generate(how);
  end_line();
  if (!step.ok()) return step.status();
  options_.writing.sampling.reset();  // the generator goes on from here
  tell_read_again(step.value());
  if (options_.json) {
    Json json = {{"type", "written"}};
    json.update(turn_json(chat_, *chat_.find(step.value().turn)));
    json["tokens_read_again"] = step.value().tokens_read_again;
    json["drafted_tokens"] = step.value().drafted;
    json["accepted_tokens"] = step.value().accepted;
    print(json_line(json));
  }
  return save_session();
}

Status ChatRoom::moved(const Result<ChatStep>& step) {
  if (!step.ok()) return step.status();
  tell_read_again(step.value());
  if (options_.json) {
    print(json_line({{"type", "current"},
                     {"turn", step.value().turn},
                     {"tokens_read_again", step.value().tokens_read_again}}));
  } else if (options_.interactive) {
    introduce();
  }
  return save_session();
}

// ---- commands ----------------------------------------------------------------------------------

Status ChatRoom::undo(const std::string&) {
  const Turn* turn = chat_.find(chat_.current());
  if (turn == nullptr) return chat_.undo().status();
  const Turn* asked = turn->generated() ? chat_.find(turn->parent) : nullptr;
  const bool answer = asked != nullptr && !asked->generated();
  return moved(chat_.switch_to(answer ? asked->parent : turn->parent));
}

Status ChatRoom::retry(const std::string&) {
  const Turn* turn = chat_.find(chat_.current());
  return write(turn != nullptr && turn->generated());
}

Status ChatRoom::edit(const std::string& rest) {
  TurnId turn = 0;
  std::string text;
  MOKA_RETURN_IF_ERROR(parse_turn(rest, &turn, &text));
  MOKA_RETURN_IF_ERROR(given(chat_.edit(turn, text)));
  // An answer that was edited waits for the next text.
  return chat_.find(chat_.current())->role == Role::kModel ? Status() : write(false);
}

Status ChatRoom::branch(const std::string& rest) {
  TurnId turn = 0;
  std::string text;
  MOKA_RETURN_IF_ERROR(parse_turn(rest, &turn, &text));
  MOKA_RETURN_IF_ERROR(given(chat_.branch(turn, Role::kUser, text)));
  return write(false);
}

Status ChatRoom::switch_to(const std::string& rest) {
  TurnId turn = 0;
  MOKA_RETURN_IF_ERROR(parse_turn(rest, &turn, nullptr));
  return moved(chat_.switch_to(turn));
}

Status ChatRoom::remove(const std::string& rest) {
  TurnId turn = 0;
  MOKA_RETURN_IF_ERROR(parse_turn(rest, &turn, nullptr));
  MOKA_RETURN_IF_ERROR(chat_.remove(turn));
  return save_session();
}

Status ChatRoom::turns(const std::string&) {
  if (options_.json) {
    Json list = Json::array();
    for (const Turn& turn : chat_.turns()) list.push_back(turn_json(chat_, turn));
    print(json_line({{"type", "turns"}, {"current", chat_.current()}, {"turns", list}}));
    return Status();
  }
  if (chat_.turns().empty()) {
    say("there are no turns yet");
    return Status();
  }
  Table table({{"turn", true}, {"after", true}, {"who"}, {"tokens", true}, {"text"}});
  for (const Turn& turn : chat_.turns()) {
    const bool current = turn.id == chat_.current();
    table.add({(current ? "* " : "") + std::to_string(turn.id), std::to_string(turn.parent),
               role_name(turn.role), with_commas(turn.tokens.size()), first_words(turn.text)});
  }
  std::string lines = table.to_string();
  if (!lines.empty() && lines.back() == '\n') lines.pop_back();
  say(lines);
  return Status();
}

Status ChatRoom::save(const std::string& rest) {
  if (!rest.empty()) return chat_.save_file(rest);
  if (options_.session_file.empty()) return wrong("/save: give a FILE, or start with --session");
  return save_session();
}

Status ChatRoom::open(const std::string& rest) {
  if (rest.empty()) return wrong("/open: give the FILE of a saved chat");
  MOKA_ASSIGN_OR_RETURN(chat_, Chat::open_file(model_, rest, chat_options_));
  // The chat that was in the session's file stays there.
  if (!options_.session_file.empty()) options_.session_file = rest;
  ChatStep step;
  step.turn = chat_.current();
  return moved(step);
}

Status ChatRoom::quit(const std::string&) {
  closed_ = true;
  return Status();
}

Status ChatRoom::help(const std::string&) {
  say(std::string("a line is a text to go on from; an empty one lets the model go on\n") +
      kChatCommands);
  return Status();
}

// ---- the rest ----------------------------------------------------------------------------------

Status ChatRoom::parse_turn(const std::string& rest, TurnId* turn, std::string* text) const {
  const size_t space = rest.find(' ');
  const std::string number = rest.substr(0, space);
  const std::optional<uint64_t> value = parse_whole(number, 0, UINT64_MAX);
  if (!value) return wrong("'" + number + "' is not the number of a turn; /turns shows them");
  *turn = *value;
  const std::string after = space == std::string::npos ? "" : rest.substr(space + 1);
  if (text == nullptr) {
    return after.empty() ? Status() : wrong("'" + after + "' is too much; one number is enough");
  }
  *text = after;
  return after.empty() ? wrong("the text is missing; write it behind the number") : Status();
}

Status ChatRoom::save_session() const {
  if (options_.session_file.empty()) return Status();
  return chat_.save_file(options_.session_file);
}

void ChatRoom::tell_read_again(const ChatStep& step) const {
  if (!options_.interactive || step.tokens_read_again == 0) return;
  say("(" + with_commas(step.tokens_read_again) + " tokens were read again)");
}

void ChatRoom::introduce() const {
  const Turn* turn = chat_.find(chat_.current());
  if (turn == nullptr) {
    say("at the start");
    return;
  }
  std::string text;
  for (const TurnId id : chat_.path()) {
    text += chat_.find(id)->text;
    if (text.size() > 2 * kRecallBytes) text.erase(0, text.size() - 2 * kRecallBytes);
  }
  say("at turn " + std::to_string(turn->id) + ", behind " + with_commas(turn->position) +
      " tokens:\n" + last_bytes(text, kRecallBytes));
}

}  // namespace moka::cli
