"""Describes the i386 socket ABI as data: system calls, memory layouts, names of numbers, the record of a call.

`operations` has a row for each system call; `fetch` copies the memory that a call points to, `decode` decodes its
arguments, `notation` writes a decoded call as a line. `arguments` has what an argument is, by subject. Pure: nothing
here does I/O.
"""
