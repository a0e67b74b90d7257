"""ptrace(2), process_vm_readv(2), prctl(2): what python-ptrace has, by its names, and what it lacks."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

from ptrace.binding import func
from ptrace.binding.linux_struct import user_regs_struct

CONT: int = func.PTRACE_CONT
SYSCALL: int = func.PTRACE_SYSCALL
DETACH: int = func.PTRACE_DETACH
GETEVENTMSG: int = func.PTRACE_GETEVENTMSG
GETREGS: int = func.PTRACE_GETREGS
SETREGS: int = func.PTRACE_SETREGS
O_TRACESYSGOOD: int = func.PTRACE_O_TRACESYSGOOD
O_TRACEFORK: int = func.PTRACE_O_TRACEFORK
O_TRACEVFORK: int = func.PTRACE_O_TRACEVFORK
O_TRACECLONE: int = func.PTRACE_O_TRACECLONE
O_TRACEEXEC: int = func.PTRACE_O_TRACEEXEC
EVENT_EXEC: int = func.PTRACE_EVENT_EXEC
EVENTS_OF_BIRTH = (func.PTRACE_EVENT_FORK, func.PTRACE_EVENT_VFORK, func.PTRACE_EVENT_CLONE)
# What python-ptrace lacks (include/uapi/linux/ptrace.h).
SEIZE, INTERRUPT, LISTEN, GET_SYSCALL_INFO = 0x4206, 0x4207, 0x4208, 0x420E
O_TRACESECCOMP, O_EXITKILL = 1 << 7, 1 << 20
EVENT_SECCOMP, EVENT_STOP = 7, 128
INFO_ENTRY = 1
ARCH_I386, ARCH_X86_64 = 0x40000003, 0xC000003E

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22

#: The registers of a stopped tracee, as wide as this process's own.
#: (On i386 the structure halves the slots of the segment registers: ds and __ds are one register.)
REGISTER_NAMES: tuple[str, ...] = tuple(name for name, _ in user_regs_struct._fields_ if not name.startswith("__"))

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)


class _IOVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


_libc.process_vm_readv.restype = ctypes.c_ssize_t
_libc.process_vm_readv.argtypes = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong,
)  # fmt: skip


class SyscallInfo(ctypes.Structure):
    """struct ptrace_syscall_info up to the arguments of an entry or seccomp stop."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("nr", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    )


def request(number: int, pid: int, address: int = 0, data: int = 0) -> int:
    """One ptrace request. Raises OSError (ESRCH: the tracee is gone or not stopped)."""
    result: int = _libc.ptrace(number, pid, address, data)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace request {number:#x} for {pid}: {os.strerror(error)}")
    return result


_regs = user_regs_struct()
_regs_at = ctypes.addressof(_regs)
_regs_view = memoryview(_regs).cast("B").cast("L")
_message = ctypes.c_ulong()


def registers(pid: int) -> tuple[int, ...]:
    """The registers of a stopped tracee in the order of REGISTER_NAMES, each as wide as a word of this process."""
    request(GETREGS, pid, 0, _regs_at)
    return tuple(_regs_view)


def event_message(pid: int) -> int:
    """PTRACE_GETEVENTMSG: the new process's id, or the former id after exec."""
    request(GETEVENTMSG, pid, 0, ctypes.addressof(_message))
    return _message.value


def syscall_info(pid: int) -> SyscallInfo:
    """PTRACE_GET_SYSCALL_INFO (Linux 5.3): which ABI the call came by."""
    info = SyscallInfo()
    request(GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
    return info


_ROOM = 4096
_buffer = ctypes.create_string_buffer(_ROOM)
_local = (_IOVec * 1)(_IOVec(ctypes.addressof(_buffer), _ROOM))
_remote = (_IOVec * 2)()
_local_at, _remote_at = ctypes.addressof(_local), ctypes.addressof(_remote)


def read(pid: int, address: int, size: int) -> bytes:
    """Up to `size` bytes (4096 at most) of a process's memory; fewer where it ends, none where there is none."""
    _remote[0].base, _remote[0].size = address, min(size, _ROOM)
    _local[0].size = _ROOM
    count: int = _libc.process_vm_readv(pid, _local_at, 1, _remote_at, 1, 0)
    return ctypes.string_at(_buffer, count) if count > 0 else b""


def read_two(pid: int, first: int, size: int, second: int, size2: int) -> bytes:
    """Like `read` for two places, in one call: the bytes of both, one after the other."""
    _remote[0].base, _remote[0].size = first, size
    _remote[1].base, _remote[1].size = second, size2
    _local[0].size = size + size2
    count: int = _libc.process_vm_readv(pid, _local_at, 1, _remote_at, 2, 0)
    return ctypes.string_at(_buffer, count) if count > 0 else b""


def prctl(option: int, value: int = 0, pointer: int = 0) -> None:
    """prctl(2). Raises OSError."""
    if _libc.prctl(option, value, pointer, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl {option}: {os.strerror(error)}")


def set_filter(program: Sequence[bytes]) -> None:
    """Installs a seccomp filter, for good. Raises OSError (EINVAL: the kernel refuses the program)."""
    code = ctypes.create_string_buffer(b"".join(program))
    fprog = (ctypes.c_size_t * 2)(len(program), ctypes.addressof(code))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(fprog))


def gone(error: OSError) -> bool:
    """Whether an error says that the tracee died between its stop and our request."""
    return error.errno == errno.ESRCH
