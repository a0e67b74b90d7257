"""Generates syscalls.py, the i386 numbers, from the tables of several kernels.

    python -m tools.generate_syscalls VERSION=SYSCALL_32_TBL … > probes/abi/syscalls.py

Each VERSION (5.10) comes with that kernel's arch/x86/entry/syscalls/syscall_32.tbl, oldest first. Run it to
add a newer kernel.
"""

from __future__ import annotations

import sys
from pathlib import Path

#: The entry points that stand in a table where there is no system call.
_NO_ENTRY = ("-", "sys_ni_syscall")


def read(table: str) -> dict[int, tuple[str, bool, bool]]:
    """Return number to (name, whether a native kernel has the call, whether the x86-64 kernel's compat entry has it).

    A line is `number abi name [entry [compat entry [noreturn]]]`; without a compat entry the entry serves both.
    """
    found = {}
    for line in table.splitlines():
        fields = line.partition("#")[0].split()
        if fields:
            native = fields[3] if len(fields) > 3 else "-"
            compat = fields[4] if len(fields) > 4 and fields[4] != "-" else native
            found[int(fields[0])] = fields[2], native not in _NO_ENTRY, compat not in _NO_ENTRY
    return found


def main(*arguments: str) -> None:
    """Print syscalls.py. Raises ValueError if two kernels give one number to two calls, which never happens."""
    versions = [argument.partition("=")[0] for argument in arguments]
    tables = [read(Path(argument.partition("=")[2]).read_text()) for argument in arguments]
    read_from = f"syscall_32.tbl of Linux {', '.join(versions)}"
    print(f'"""Call numbers. Source: {read_from}, read by generate_syscalls.py. Do not edit."""\n')
    print("#: The versions whose tables were read, oldest first.")
    print(f"VERSIONS: tuple[tuple[int, int], ...] = ({', '.join(v.replace('.', ', ').join('()') for v in versions)})")
    print("#: Number to (name, native entry, compat entry): one character a version, y where there is a call.")
    print("SYSCALLS: dict[int, tuple[str, str, str]] = {")
    for number in sorted({number for table in tables for number in table}):
        names = {table[number][0] for table in tables if number in table}
        if len(names) != 1:
            raise ValueError(f"{number} was given to {sorted(names)}")
        rows = [table.get(number, ("", False, False)) for table in tables]
        native, compat = ("".join("y" if row[which] else "-" for row in rows) for which in (1, 2))
        print(f'    {number}: ("{names.pop()}", "{native}", "{compat}"),')
    print("}")


if __name__ == "__main__":
    main(*sys.argv[1:])
