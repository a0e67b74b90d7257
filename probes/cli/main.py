"""Runs `socketcall`: handles signals, streams and errors for every command, and returns one of the documented statuses.

What can fail or take long is imported once the signals are handled.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from probes import interrupts

#: Exit status of a process that is not the one that was started: a forked child that came back to `main` by mistake.
_NOT_STARTED = 70
_NO_MEMORY = b"socketcall: MemoryError: there is not enough memory; see ulimit -v and ulimit -s\n"


def run() -> NoReturn:
    """Runs the command of this process, and ends the process with its status.

    It does not return to Python, whose own end needs memory, reports what it lacks, and has a status of its own.
    """
    status = 3
    try:
        status = main()
        sys.stderr.flush()
    except (MemoryError, SystemError):
        # Python raises SystemError where a function of it found no memory for its exception.
        os.write(2, _NO_MEMORY)
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status. Raises MemoryError, SystemError: there is not enough memory."""
    with interrupts.handled():
        try:
            status = _guarded(sys.argv[1:] if argv is None else argv)
            interrupts.ignore()
        except KeyboardInterrupt as error:
            interrupts.ignore()
            status = interrupts.status_of(error)
    return status


def _guarded(argv: Sequence[str]) -> int:
    """Runs a command, and returns an exit status for every error."""
    from probes.cli import streams
    from probes.errors import CommandError

    streams.prepare()
    # A parent that ignores SIGCHLD takes the statuses of our children: waitpid(2) fails with ECHILD.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        status = _run(argv)
        interrupts.raise_received()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as error:
        streams.abandon()
        return interrupts.status_of(error)
    except CommandError as error:
        return _failed(str(error), error.status)
    except BrokenPipeError:
        # `| head` has read enough.
        streams.abandon()
        return 128 + signal.SIGPIPE
    except OSError as error:
        name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return _failed(f"{name}{error.strerror or error}; the command could not go on", 3)
    except (MemoryError, SystemError):
        raise
    except RecursionError:
        return _failed("RecursionError: there is not enough memory for the stack; see ulimit -s", 3)
    except Exception as error:
        if os.environ.get(interrupts.TRACEBACK):
            raise
        why = " ".join(f"{type(error).__name__}: {error}".split())
        return _failed(
            f"internal error: {why}; report it with the output of the command with {interrupts.TRACEBACK}=1", 3
        )


def _run(argv: Sequence[str]) -> int:
    from probes.cli.command_line import parsed

    try:
        args = parsed(argv)
        interrupts.raise_received()
        status: int = args.run(args)
    except SystemExit as done:
        # --help and --version.
        return done.code if isinstance(done.code, int) else 0
    finally:
        if not interrupts.is_started():
            # Under an emulator clone(2) can return twice: only the process that was started prints and has a status.
            os._exit(_NOT_STARTED)
    return status


def _failed(text: str, status: int) -> int:
    from probes.cli import streams

    streams.say(text)
    streams.abandon()
    return status
