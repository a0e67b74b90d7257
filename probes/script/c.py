"""Writes scripts as a C program without a library: what the authors of an implementation are sent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from probes.entry.memory import PAGE
from probes.script.c_function import WIDTH, Function, comment, quoted
from probes.script.script import Script

_RUNTIME = Path(__file__).with_name("runtime.c")
#: A part of it that a program has if it uses what the part is named after, names with spaces between.
_OPTIONAL = re.compile(r"//@ ([\w ]+)\n(.*?)//@\n\n?", re.DOTALL)
_NETWORK = "\tint network = syscall(310, 0x50000000);            /* unshare(CLONE_NEWUSER | CLONE_NEWNET) */\n\n"
_OR_SAME_USER = "\tif (network != 0)\n\t\tnetwork = syscall(310, 0x40000000);\n"
_SAME_USER = "\tint network = syscall(310, 0x40000000);            /* unshare(CLONE_NEWNET) */\n\n"
_DIRECTORY = """\
	static char directory[] = "/tmp/socketcall.0000000";
	u32 at, number = syscall(20);                      /* getpid */
	int network = syscall(310, 0x40020000);            /* unshare(CLONE_NEWNET | CLONE_NEWNS) */

	if (network == 0) {
		syscall(21, 0, (u32)"/", 0, 0x44000);      /* mount: MS_REC | MS_PRIVATE */
		syscall(21, (u32)"tmpfs", (u32)"/tmp", (u32)"tmpfs");
	}
	do {
		at = sizeof(directory) - 2;
		for (u32 left = number++; left; left /= 10)
			directory[at--] = '0' + left % 10;
	} while (syscall(39, (u32)directory, 0700) == -17);    /* mkdir: EEXIST */
	syscall(12, (u32)directory);                       /* chdir */
"""
#: Sysctls are written in a network of the test's own only.
_OR_NOTHING = """\
	if (network != 0) {
		at("", "unshare(CLONE_NEWNET)");
		now->result = network;
		fail(0, "0", 4);
	}
"""


def program(scripts: Sequence[Script], missing: Sequence[str] = ()) -> str:
    """Returns the program. `missing` are lines about tests that have no script."""
    functions = [Function(script, name) for script, name in zip(scripts, _names(scripts), strict=True)]
    constants: dict[str, int] = {}
    for function in functions:
        constants |= function.expressions.constants
    size = max((function.size for function in functions), default=PAGE)
    files = any(script.files for script in scripts)
    runtime = _RUNTIME.read_text()
    body = "".join(function.text for function in functions)
    runtime = _OPTIONAL.sub(
        lambda part: part[2] + "\n" if re.search(rf"\b({'|'.join(part[1].split())})\(", body) else "", runtime
    )
    for name, text in {
        "@CONSTANTS@\n\n": _enumeration(constants),
        "@SIZE@": f"{size // PAGE} * 4096",
        "@DIRECTORY_TOO@": ", and an empty directory" if files else "",
        "@NETWORK@": _network(scripts),
    }.items():
        runtime = runtime.replace(name, text)
    parts = [_head(scripts, missing), runtime, *(function.text for function in functions), _main(functions)]
    return "\n".join(parts)


def _network(scripts: Sequence[Script]) -> str:
    """Returns how a test gets a network of its own, and a directory if it makes files."""
    if any(script.files for script in scripts):
        text = _DIRECTORY
    else:
        text = _SAME_USER if any(script.ids for script in scripts) else _NETWORK + _OR_SAME_USER
    return text + (_OR_NOTHING if any(script.network for script in scripts) else "")


def _head(scripts: Sequence[Script], missing: Sequence[str]) -> str:
    ids = list(dict.fromkeys(script.id for script in scripts))
    lines = [
        f"{', '.join(ids[:3])}{f' and {len(ids) - 3} others' * (len(ids) > 3)}",
        "",
        "Build: gcc -m32 -nostdlib -static -o test FILE.c",
        "",
        "./test exits 0 if every answer is as documented, 1 with a line for each test that gets another one, and 4 if",
        "nothing is wrong but a test could not be prepared. The tests are at the end.",
    ]
    if missing:
        lines += ["", "Not in this program:", *(f"  {line}" for line in missing)]
    return comment(lines)


def _enumeration(constants: dict[str, int]) -> str:
    if not constants:
        return ""
    members = ", ".join(
        f"{name} = {value if value <= 4096 else hex(value)}" for name, value in sorted(constants.items())
    )
    lines, line = [], "\t"
    for member in members.split(", "):
        if len(line) + len(member) > WIDTH - 8:
            lines.append(line.rstrip())
            line = "\t"
        line += f"{member}, "
    return "enum {\n" + "\n".join([*lines, line.rstrip()]) + "\n};\n\n"


def _main(functions: Sequence[Function]) -> str:
    tests = [
        f"\t\t{{ {quoted(one.script.id)},\n\t\t  {quoted(one.script.source)},\n\t\t  {one.name} }},\n"
        for one in functions
    ]
    return (
        "void start(void)\n{\n"
        "\tstatic struct { const char *id, *source; void (*test)(void); } tests[] = {\n"
        f"{''.join(tests)}\t}};\n"
        "\tint failed = 0, unprepared = 0, copy = syscall(55, 1, 0, 900);  /* fcntl: F_DUPFD */\n\n"
        "\tout = copy < 0 ? 1 : copy;\n"
        "\tsyscall(48, 17);                                               /* signal: SIGCHLD is not ignored */\n"
        "\tnow = (struct state *)syscall(192, 0, 4096, 3, 0x21, -1);      /* mmap2: shared memory */\n"
        "\tfor (u32 i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {\n"
        "\t\tint status = run(tests[i].id, tests[i].source, tests[i].test);\n\n"
        "\t\tfailed |= status != 0 && status != 4;\n"
        "\t\tunprepared |= status == 4;\n"
        "\t}\n"
        "\tsyscall(1, failed ? 1 : unprepared ? 4 : 0);\n"
        "}\n\n"
        'asm(".globl _start; _start: and $-16, %esp; call start");\n'
    )


def _names(scripts: Sequence[Script]) -> Iterator[str]:
    """Yields the names of the functions: id and route, and a number from the second of them on."""
    used: Counter[str] = Counter()
    for script in scripts:
        name = re.sub(r"\W", "_", "_".join(filter(None, (script.id, script.route))))
        used[name] += 1
        yield name if used[name] == 1 else f"{name}_{used[name]}"
