#!/usr/bin/env python3
"""Writes the man page and the shell completions of `moka` from its own --help.

    make_docs.py --out DIR [--date YYYY-MM-DD] COMMAND...

COMMAND runs moka, and may have an emulator in front. DIR gets moka.1, moka.bash, _moka
(zsh) and moka.fish. A line of the help that is not understood is an error, so that nothing
is left out silently. Needs the standard library alone.
"""
import argparse
import os
import re
import subprocess
import sys

OPTION = re.compile(r"^  (?:(-\w), )?(--[a-z][a-z0-9-]*)(?: ([A-Z]+))?(?:  +(\S.*))?$")
ROW = re.compile(r"^  (\S+)  +(\S.*)$")


def fail(words):
    sys.exit("make_docs.py: " + words)


class Option:
    def __init__(self, short, name, value, text):
        self.short, self.name, self.value, self.text = short or "", name, value or "", text or ""

    def summary(self):
        """The description's first sentence, without what stands in brackets at its end."""
        return re.split(r"\. |; | \(default", self.text)[0].rstrip(".")

    def wants_file(self):
        return self.value in ("FILE", "SOURCE")


class Page:
    """One --help: usage, summary, paragraphs, and titled sections of lines."""

    def __init__(self, text, what):
        lines = text.splitlines()
        if not lines or not lines[0].startswith("usage: moka"):
            fail(f"{what} does not begin with 'usage: moka'")
        self.usage = lines[0][len("usage: "):]
        self.intro, self.sections, self.after = [], {}, []
        section = None
        for line in lines[1:]:
            if re.match(r"^[A-Z][A-Za-z ]*:$", line):
                section = self.sections.setdefault(line[:-1], [])
            elif section is None:
                self.intro.append(line)
            elif line == "" or line.startswith("  "):
                section.append(line)
            else:
                self.after.append(line)
        self.paragraphs = [" ".join(block.split("\n"))
                           for block in "\n".join(self.intro).strip().split("\n\n")]
        self.options = [Option(*row) for row in self.rows("Options", OPTION, what)]

    def rows(self, title, pattern, what):
        """The rows of a section; deeper lines go on with the row above."""
        rows = []
        for line in self.sections.get(title, []):
            found = pattern.match(line)
            if found:
                rows.append(list(found.groups()))
            elif line.startswith("   ") and rows:
                rows[-1][-1] = ((rows[-1][-1] or "") + " " + line.strip()).strip()
            elif line.strip():
                fail(f"{what}, section '{title}': this line is no row: '{line}'")
        return rows


class Verb:
    def __init__(self, name, summary, page):
        self.name, self.summary, self.page = name, summary, page


def read_help(command):
    def ask(*words):
        try:
            done = subprocess.run([*command, *words], capture_output=True, text=True,
                                  env=dict(os.environ, LC_ALL="C"), check=False)
        except OSError as error:
            fail(f"cannot run {command[0]}: {error}")
        if done.returncode != 0:
            fail(f"{' '.join([*command, *words])} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    top = Page(ask("--help"), "moka --help")
    version = ask("--version").split("\n")[0].removeprefix("moka ")
    groups = []
    for title in top.sections:
        if title in ("Options", "Examples", "Environment", "Exit codes"):
            continue
        verbs = []
        for name, summary in top.rows(title, ROW, "moka --help"):
            verbs.append(Verb(name, summary, Page(ask(name, "--help"), f"moka {name} --help")))
        groups.append((title, verbs))
    if not any(verbs for _, verbs in groups):
        fail("moka --help lists no verbs")
    return top, version, groups


# ---- man page ------------------------------------------------------------------------------------

def roff(text):
    for plain, escaped in (("\\", "\\e"), ("-", "\\-"), ("'", "\\(aq"), ("`", "\\(ga"),
                           ("~", "\\(ti"), ("^", "\\(ha")):
        text = text.replace(plain, escaped)
    return "\\&" + text if text.startswith(".") else text


def man_block(lines):
    """Lines as they stand, indented."""
    while lines and not lines[-1]:
        lines = lines[:-1]
    return [".RS 4", ".nf", *[roff(line[2:]) for line in lines], ".fi", ".RE"]


def man_options(options):
    out = []
    for option in options:
        names = [f"\\fB{roff(name)}\\fR" for name in (option.short, option.name) if name]
        value = f" \\fI{option.value}\\fR" if option.value else ""
        out += [".TP", ", ".join(names) + value, roff(option.text)]
    return out


def man_page(top, version, groups, date):
    out = [f'.TH MOKA 1 "{date}" "moka {version}" "User Commands"',
           ".SH NAME", "moka \\- run Latte models: write, classify, compare, embed, forecast",
           ".SH SYNOPSIS", ".B moka", "\\fIVERB\\fR [\\fIoptions\\fR]",
           ".SH DESCRIPTION", *[part for text in top.paragraphs for part in (".PP", roff(text))]]
    if top.after:
        out += [".PP", roff(" ".join(top.after))]
    out += [".SH OPTIONS", *man_options(top.options)]
    for title, verbs in groups:
        out += [f".SH {title.upper()}"]
        for verb in verbs:
            out += [f".SS {roff(verb.page.usage)}"]
            out += [part for text in verb.page.paragraphs for part in (".PP", roff(text))]
            for name, text in verb.page.rows("Arguments", ROW, verb.name):
                out += [".TP", f"\\fI{roff(name)}\\fR", roff(text)]
            out += man_options(verb.page.options)
            for section, lines in verb.page.sections.items():
                # Exit codes are the same for all, and stand at the end.
                if section not in ("Arguments", "Options", "Exit codes"):
                    out += [".PP", roff(section) + ":", *man_block(lines)]
    codes = groups[0][1][0].page.rows("Exit codes", ROW, "exit codes")
    out += [".SH EXIT STATUS"]
    for code, text in codes:
        out += [".TP", code, roff(text)]
    out += [".SH ENVIRONMENT"]
    for name, text in top.rows("Environment", ROW, "moka --help"):
        out += [".TP", f"\\fB{name}\\fR", roff(text)]
    out += [".SH EXAMPLES", *man_block(top.sections["Examples"])]
    return "\n".join(out) + "\n"


# ---- completions ---------------------------------------------------------------------------------

def words_of(options):
    return " ".join(name for option in options for name in (option.short, option.name) if name)


def alternatives(options):
    return "|".join(name for option in options for name in (option.short, option.name) if name)


BASH_END = r"""    *) return ;;
  esac
  if [[ -z $files && $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    return
  fi
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$current")
}
complete -F _moka moka
"""


def bash(top, verbs):
    out = ["# bash completion of moka; made from its --help", "_moka() {",
           "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}",
           "  local options='' files=''", "  COMPREPLY=()",
           "  if [[ $COMP_CWORD -eq 1 ]]; then",
           f"    mapfile -t COMPREPLY < <(compgen -W \"{' '.join(v.name for v in verbs)} "
           f"{words_of(top.options)}\" -- \"$current\")",
           "    return", "  fi", "  case ${COMP_WORDS[1]} in"]
    # The same letter may take a file with one verb and a text with another.
    cases = []
    for verb in verbs:
        takes = [o for o in verb.page.options if o.value]
        files = alternatives([o for o in takes if o.wants_file()]) or "''"
        values = alternatives([o for o in takes if not o.wants_file()]) or "''"
        cases += [f"    {verb.name})", f"      options='{words_of(verb.page.options)}'",
                  "      case $previous in", f"        {files}) files=1 ;;",
                  f"        {values}) return ;;", "      esac", "      ;;"]
    return "\n".join(out + cases) + "\n" + BASH_END


def zsh_quote(text):
    return text.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def zsh_option(option):
    names = [name for name in (option.short, option.name) if name]
    action = ""
    if option.value:
        action = f":{option.value}:" + ("_files" if option.wants_file() else "")
    tail = f"'[{zsh_quote(option.summary())}]{action}'"
    if len(names) == 1:
        return f"'*{names[0]}'{tail}"
    return "'*'{" + ",".join(names) + "}" + tail


def zsh(top, verbs):
    out = ["#compdef moka", "# zsh completion of moka; made from its --help", "",
           "_moka() {", "  local -a verbs", "  if (( CURRENT == 2 )); then", "    verbs=("]
    out += [f"      '{verb.name}:{zsh_quote(verb.summary)}'" for verb in verbs]
    out += ["    )", "    _describe -t verbs verb verbs",
            "    _arguments " + " ".join(zsh_option(option) for option in top.options),
            "    return", "  fi", "  local verb=$words[2]", "  shift words", "  (( CURRENT-- ))",
            "  case $verb in"]
    for verb in verbs:
        out += [f"    {verb.name})", "      _arguments \\"]
        out += [f"        {zsh_option(option)} \\" for option in verb.page.options]
        out += ["        '*:file:_files'", "      ;;"]
    out += ["  esac", "}", "", "_moka \"$@\""]
    return "\n".join(out) + "\n"


def fish_quote(text):
    return text.replace("\\", "\\\\").replace("'", "\\'")


def fish(top, verbs):
    def line(condition, option):
        short = f" -s {option.short[1:]}" if option.short else ""
        value = "" if not option.value else " -r" if option.wants_file() else " -x"
        return (f"complete -c moka -n '{condition}'{short} -l {option.name[2:]}{value}"
                f" -d '{fish_quote(option.summary())}'")

    out = ["# fish completion of moka; made from its --help"]
    out += [line("__fish_use_subcommand", option) for option in top.options]
    out += [f"complete -c moka -f -n __fish_use_subcommand -a {verb.name}"
            f" -d '{fish_quote(verb.summary)}'" for verb in verbs]
    out += [line(f"__fish_seen_subcommand_from {verb.name}", option)
            for verb in verbs for option in verb.page.options]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description="man page and completions of moka")
    parser.add_argument("--out", required=True)
    parser.add_argument("--date", default="")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    command = [word for word in arguments.command if word != "--"]
    if not command:
        fail("COMMAND is missing: how to run moka")
    top, version, groups = read_help(command)
    verbs = [verb for _, group in groups for verb in group]
    os.makedirs(arguments.out, exist_ok=True)
    for name, text in (("moka.1", man_page(top, version, groups, arguments.date)),
                       ("moka.bash", bash(top, verbs)), ("_moka", zsh(top, verbs)),
                       ("moka.fish", fish(top, verbs))):
        with open(os.path.join(arguments.out, name), "w", encoding="ascii") as file:
            file.write(text)


if __name__ == "__main__":
    main()
