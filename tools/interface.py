"""Writes what shells and man(1) know of the command line, from its parsers.

    python -m tools.interface

writes docs/interface/socketcall.1, a manual page, and docs/interface/socketcall.bash, completion for bash:

    man ./docs/interface/socketcall.1
    . docs/interface/socketcall.bash
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from probes.cli.command_line import COMMANDS, EXAMPLES, parser
from probes.errors import CommandError
from probes.installation import checkout
from tools.command import run

#: Metavars of options whose value is a file, and whose value is a directory.
_FILES, _DIRECTORIES = ("FILE", "PATH"), ("DIR",)
_HEAD = r""".\" Written by tools/interface.py from the parsers: do not change it by hand.
.TH SOCKETCALL 1
.SH NAME
socketcall \- conformance suite for the i386 Linux socket system calls
.SH SYNOPSIS
.B socketcall
.I COMMAND
.RI [ ARGUMENTS ]
.SH DESCRIPTION
.B socketcall
makes the socket calls that the documents of Linux describe, by
.B int $0x80
and the vDSO, records what crosses into the kernel in every call, and judges each documented behaviour.
.SH COMMANDS
"""
_TAIL = r""".SH EXIT STATUS
That of each command is in its help. 2: wrong arguments, or the command could not start. 128+N: ended by signal N.
.SH SEE ALSO
.BR socketcall (2),
.BR socket (2),
.BR ptrace (2),
.BR strace (1)
"""


def directory() -> Path:
    """Return where the files are."""
    return checkout() / "docs" / "interface"


def manual() -> str:
    """Return the manual page."""
    return _HEAD + "".join(_section(name, text) for name, text in COMMANDS.items()) + _TAIL


def _section(name: str, text: str) -> str:
    lines = [f".SS socketcall {name}", _roff(f"{text[0].upper()}{text[1:]}.")]
    for found, words in _parsers(name):
        if len(words) > 1:
            lines += [".PP", f".B {_roff(' '.join(['socketcall', *words]))}"]
        for action in found._actions:
            if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
                continue
            lines += [".TP", _names(action), _roff(_help(action))]
    lines += [".PP", "Example:", ".PP", ".nf", _roff(f"    {EXAMPLES[name]}"), ".fi"]
    return "\n".join(lines) + "\n"


def _parsers(name: str) -> Iterator[tuple[argparse.ArgumentParser, list[str]]]:
    """Yield the parser of a command and those of its actions, with the words that choose them."""
    for action in parser(name)._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from _tree(action.choices[name], [name])


def _tree(found: argparse.ArgumentParser, words: list[str]) -> Iterator[tuple[argparse.ArgumentParser, list[str]]]:
    yield found, words
    for action in found._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from _tree(below, [*words, name])


def _names(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return f".I {_roff(value)}"
    names = ", ".join(action.option_strings)
    return f".B {_roff(f'{names} {value}'.strip())}"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None and action.metavar is None:
        return "|".join(map(str, action.choices))
    metavar = action.metavar if action.metavar is not None else action.dest
    return metavar if isinstance(metavar, str) else " ".join(metavar)


def _help(action: argparse.Action) -> str:
    """Return the help of an action, as argparse prints it."""
    text = (action.help or "").replace("%%", "%")
    return re.sub(r"%\((\w+)\)s", lambda name: str(getattr(action, name[1], "")), text)


def _roff(text: str) -> str:
    """Return a text as roff prints it literally."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    escaped = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "\\(aq")) else escaped


def completion() -> str:
    """Return the script for bash."""
    cases, values = [], set[str]()
    for name in COMMANDS:
        found = [one for one, _ in _parsers(name)]
        options = [option for one in found for action in one._actions for option in action.option_strings]
        below = [word for one in found for action in one._actions for word in _choices(action)]
        cases.append(f"        {name}) words='{' '.join(sorted({*options, *below}))}' ;;")
        for one in found:
            values.update(line for action in one._actions if (line := _completed(name, action)))
    return _BASH.format(commands=" ".join(COMMANDS), cases="\n".join(cases), values="\n".join(sorted(values)))


def _choices(action: argparse.Action) -> Sequence[str]:
    positional = not action.option_strings and action.choices is not None
    return [str(choice) for choice in action.choices or ()] if positional else ()


def _completed(command: str, action: argparse.Action) -> str:
    """Return the line of a case for the values of an option, "" if nothing is known of them."""
    if not action.option_strings or action.nargs == 0:
        return ""
    patterns = "|".join(f"{command}:{option}" for option in action.option_strings)
    if action.choices is not None:
        how = f"""COMPREPLY=($(compgen -W '{" ".join(map(str, action.choices))}' -- "$word"))"""
    elif action.metavar in _FILES:
        how = 'COMPREPLY=($(compgen -f -- "$word"))'
    elif action.metavar in _DIRECTORIES:
        how = 'COMPREPLY=($(compgen -d -- "$word"))'
    else:
        how = "COMPREPLY=()"
    return f"        {patterns}) {how}; return ;;"


_BASH = """# Completion of socketcall for bash, written by tools/interface.py from the parsers: do not change it by hand.
_socketcall() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} last=${{COMP_WORDS[COMP_CWORD-1]}} command= words= at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${{COMP_WORDS[at]}} in
        --) COMPREPLY=($(compgen -f -- "$word")); return ;;
        -*) ;;
        *) command=${{COMP_WORDS[at]}}; break ;;
        esac
    done
    if [ -z "$command" ]; then
        COMPREPLY=($(compgen -W '{commands} --help --version' -- "$word")); return
    fi
    case $command:$last in
{values}
    esac
    case $command in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -F _socketcall socketcall
"""


def files() -> dict[str, str]:
    """Return the files by name."""
    return {"socketcall.1": manual(), "socketcall.bash": completion()}


def main(arguments: list[str]) -> int:
    """Writes both files. Raises CommandError: there are arguments."""
    if arguments:
        raise CommandError("tools.interface takes no arguments")
    directory().mkdir(exist_ok=True)
    for name, text in files().items():
        (directory() / name).write_text(text)
    return 0


if __name__ == "__main__":
    run(main)
