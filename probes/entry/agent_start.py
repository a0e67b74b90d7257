"""Start the agent, or a command that runs it, between two pipes."""

from __future__ import annotations

import fcntl
import os
import signal

from probes.entry.machine.agent_code import AGENT

#: The whole program, an ELF file.
PROGRAM = AGENT[32][0]
_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def start(command: list[str], stderr: int) -> tuple[int, int, int]:
    """Start a command, or the agent from a sealed file in memory, between two pipes: (pid, to it, from it).

    A command has a process group of its own, and writes its errors to the descriptor `stderr`. Raises OSError.
    """
    their_in, to = os.pipe()
    from_, their_out = os.pipe()
    descriptors = [their_in, their_out]
    try:
        actions = [(os.POSIX_SPAWN_DUP2, their_in, 0), (os.POSIX_SPAWN_DUP2, their_out, 1)]
        # A signal that is blocked or ignored here would be so there.
        default = (signal.SIGINT, signal.SIGPIPE)
        if command:
            actions.append((os.POSIX_SPAWN_DUP2, stderr, 2))
            pid = os.posix_spawnp(
                command[0], command, os.environ, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=default
            )
        else:
            program = _program()
            descriptors.append(program)
            path, argv = f"/proc/self/fd/{program}", ["socketcall-agent"]
            pid = os.posix_spawn(path, argv, os.environ, file_actions=actions, setsigmask=(), setsigdef=default)
    except BaseException:
        os.close(to)
        os.close(from_)
        raise
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return pid, to, from_


def _program() -> int:
    """Return a descriptor of the agent as a sealed file in memory. Raises OSError."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        program = os.memfd_create("socketcall-agent", flags | _MFD_EXEC)
    except OSError:  # Linux before 6.3 does not know the flag.
        program = os.memfd_create("socketcall-agent", flags)
    os.write(program, PROGRAM)
    fcntl.fcntl(program, fcntl.F_ADD_SEALS, _SEALS)
    return program
