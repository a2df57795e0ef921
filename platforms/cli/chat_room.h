// ChatRoom: what `moka chat` does with one line: a text to go on from, or a command.
//
// stdout gets what the model writes (with JSON: an object per event); words for people go to
// stderr.
#ifndef MOKA_PLATFORMS_CLI_CHAT_ROOM_H_
#define MOKA_PLATFORMS_CLI_CHAT_ROOM_H_

#include <optional>
#include <string>

#include "moka/moka.h"
#include "platforms/cli/json.h"

namespace moka::cli {

// Of the commands, for --help and /help.
extern const char kChatCommands[];

struct ChatRoomOptions {
  std::string session_file;  // saved after every change; empty: nowhere
  GenerateOptions writing;   // its sampling is for the first turn that is written
  bool json = false;
  bool interactive = false;  // someone reads stderr and types
};

class ChatRoom {
 public:
  ChatRoom(const Model& model, Chat chat, const ChatOptions& chat_options,
           const ChatRoomOptions& options);

  // Does what the line says, and saves. An error is that of the line: the chat goes on.
  Status take(const std::string& line);
  bool closed() const { return closed_; }  // by /quit

  // Ends a line of stdout that an interrupt left open.
  void end_line();

  // Where an opened chat stands, for people.
  void introduce() const;

 private:
  struct Command;
  static const Command kCommands[];

  Status command(const std::string& line);
  Status say_text(const std::string& text);
  Status undo(const std::string& rest);
  Status edit(const std::string& rest);
  Status retry(const std::string& rest);
  Status branch(const std::string& rest);
  Status switch_to(const std::string& rest);
  Status remove(const std::string& rest);
  Status turns(const std::string& rest);
  Status save(const std::string& rest);
  Status open(const std::string& rest);
  Status quit(const std::string& rest);
  Status help(const std::string& rest);

  // After a step: tells of it, and saves.
  Status given(const Result<ChatStep>& step);
  Status moved(const Result<ChatStep>& step);
  Status write(bool anew);
  Status save_session() const;
  bool print(std::string_view text);
  // "N" and what follows it; with `text`, which then must not be empty.
  Status parse_turn(const std::string& rest, TurnId* turn, std::string* text) const;
  void tell_read_again(const ChatStep& step) const;

  const Model model_;
  Chat chat_;
  const ChatOptions chat_options_;
  ChatRoomOptions options_;
  bool line_open_ = false;  // on stdout
  bool closed_ = false;
};

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_CHAT_ROOM_H_
