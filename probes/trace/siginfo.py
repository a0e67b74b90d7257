"""Read why a signal is delivered to a stopped tracee (PTRACE_GETSIGINFO), in the notation of strace."""

from __future__ import annotations

import ctypes
import signal
import struct

from probes.trace import ptrace

_GETSIGINFO = 0x4202
_SIZE = 128
#: The union of struct siginfo begins at a long (include/uapi/asm-generic/siginfo.h).
_UNION = 16 if ctypes.sizeof(ctypes.c_void_p) == 8 else 12
_CODES = {0: "SI_USER", 128: "SI_KERNEL", -1: "SI_QUEUE", -2: "SI_TIMER", -3: "SI_MESGQ", -4: "SI_ASYNCIO",
          -5: "SI_SIGIO", -6: "SI_TKILL"}  # fmt: skip
_CODES_OF = {
    signal.SIGCHLD: ("CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"),
    signal.SIGSEGV: ("SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"),
    signal.SIGBUS: ("BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR"),
    signal.SIGFPE: ("FPE_INTDIV", "FPE_INTOVF", "FPE_FLTDIV", "FPE_FLTOVF", "FPE_FLTUND", "FPE_FLTRES", "FPE_FLTINV",
                    "FPE_FLTSUB"),
    signal.SIGILL: ("ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP", "ILL_PRVOPC", "ILL_PRVREG", "ILL_COPROC",
                    "ILL_BADSTK"),
    signal.SIGIO: ("POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP"),
}  # fmt: skip
_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


def siginfo(tid: int) -> tuple[str, ...]:
    """Return the members of a tracee's siginfo. Raises OSError: ESRCH."""
    held = ctypes.create_string_buffer(_SIZE)
    ptrace.request(_GETSIGINFO, tid, 0, ctypes.addressof(held))
    return members(held.raw)


def members(raw: bytes) -> tuple[str, ...]:
    """Decode the members of a struct siginfo: those that its signal and its code have."""
    number, error, code = struct.unpack_from("=3i", raw)
    name = _name(number)
    own = _CODES_OF.get(number, ()) if code > 0 and code < 128 else ()
    shown = own[code - 1] if 0 < code <= len(own) else _CODES.get(code, code)
    found = [f"si_signo={name}", *([f"si_errno={error}"] if error else []), f"si_code={shown}"]
    pid, uid, status = struct.unpack_from("=iIi", raw, _UNION)
    if number == signal.SIGCHLD and own:
        killed = shown in ("CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED")
        found += [f"si_pid={pid}", f"si_uid={uid}", f"si_status={_name(status) if killed else status}"]
    elif number in _FAULTS and own:
        found.append(f"si_addr={_pointer(raw)}")
    elif code in (0, -1, -6):
        found += [f"si_pid={pid}", f"si_uid={uid}"]
    elif number == signal.SIGIO and own:
        found.append(f"si_band={pid}")
    return tuple(found)


def _pointer(raw: bytes) -> str:
    address = int(struct.unpack_from("=Q" if _UNION == 16 else "=I", raw, _UNION)[0])
    return hex(address) if address else "NULL"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRT_{number - 32}" if number > 32 else str(number)
