#!/usr/bin/env python3
"""Writes a story with you: python3 story.py MODEL [--seed N] [--tokens N]

You begin, the model goes on. An empty line lets it write on; /undo takes back its last part and yours,
/retry has it write another one, /save FILE keeps all of it, /quit or the end of the input ends. Ctrl-C
stops the model where it is.
"""

import argparse
import sys

import moka


def write(reply: moka.Reply) -> None:
    try:
        for piece in reply:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pass  # the turn is kept with what it has
    print()


def answer(chat: moka.Chat, line: str, tokens: int) -> None:
    verb, _, rest = line.partition(" ")
    if verb == "/undo":
        chat.undo()
        if chat.current and chat.turn(chat.current).role == "user":
            chat.undo()
    elif verb == "/retry":
        write(chat.retry(max_tokens=tokens))
    elif verb == "/save":
        chat.save_file(rest)
    else:
        write(chat.reply(line or None, max_tokens=tokens))


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes a story with you.")
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, help="writes the same story again")
    parser.add_argument("--tokens", type=int, default=60, help="of each part (60)")
    arguments = parser.parse_args()
    with moka.load(arguments.model) as model, model.chat(seed=arguments.seed) as chat:
        print(f"{model.info.name}, seed {chat.seed}. How does it begin?", file=sys.stderr)
        for line in sys.stdin:
            line = line.rstrip("\n")
            if line == "/quit":
                break
            try:
                answer(chat, line, arguments.tokens)
            except moka.MokaError as error:
                print(f"({error})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
