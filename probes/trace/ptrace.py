"""Bind ptrace(2), prctl(2) and process_vm_readv(2): constants of python-ptrace, and the requests that it lacks."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import signal
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn


def _import_bindings() -> tuple[Any, Any]:
    """Import the constants and struct user_regs_struct of python-ptrace, without its search for the C library.

    It runs ldconfig(8), which takes as long as all other imports. None is the C library of this process.
    """
    search = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    try:
        from ptrace.binding import func
        from ptrace.binding.linux_struct import user_regs_struct
    finally:
        ctypes.util.find_library = search
    return func, user_regs_struct


func, user_regs_struct = _import_bindings()
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
EVENTS_OF_CLONE = (func.PTRACE_EVENT_FORK, func.PTRACE_EVENT_VFORK, func.PTRACE_EVENT_CLONE)
# Missing in python-ptrace (include/uapi/linux/ptrace.h).
SEIZE, INTERRUPT, LISTEN, GET_SYSCALL_INFO = 0x4206, 0x4207, 0x4208, 0x420E
_GETSIGMASK, _SETSIGMASK = 0x420A, 0x420B
O_TRACESECCOMP, O_EXITKILL = 1 << 7, 1 << 20
EVENT_SECCOMP, EVENT_STOP = 7, 128
INFO_ENTRY, _INFO_EXIT = 1, 2
#: Option of waitpid: children of any kind (__WALL).
WALL = 0x40000000
#: Bytes of the kernel's sigset_t.
_SIGNALS = 8
ARCH_I386, ARCH_X86_64 = 0x40000003, 0xC000003E

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22

#: Names of the fields of user_regs_struct, each as wide as a register of this process.
#: (On i386 the structure declares 16 bits of padding for each segment register: __ds belongs to ds.)
REGISTER_NAMES: tuple[str, ...] = tuple(name for name, _ in user_regs_struct._fields_ if not name.startswith("__"))

# PyDLL keeps the interpreter's lock: no request blocks.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)


class SyscallInfo(ctypes.Structure):
    """Lays out struct ptrace_syscall_info up to the arguments of an entry or seccomp stop."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("nr", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    )


_ptrace = _libc.ptrace


def request(number: int, pid: int, address: int = 0, data: int = 0) -> int:
    """Make a ptrace request. Raises OSError (ESRCH: the tracee is gone or not stopped)."""
    result: int = _ptrace(number, pid, address, data)
    if result == -1:
        _fail(number, pid)
    return result


def _fail(number: int, pid: int) -> NoReturn:
    error = ctypes.get_errno()
    raise OSError(error, f"ptrace request {number:#x} for {pid}: {os.strerror(error)}")


_WORD = "Q" if ctypes.sizeof(ctypes.c_long) == 8 else "I"
_regs = (ctypes.c_char * ctypes.sizeof(user_regs_struct))()
_regs_at = ctypes.addressof(_regs)
#: Returns registers in the order of REGISTER_NAMES, each as wide as one of this process.
registers_in: Callable[[bytes], tuple[int, ...]] = struct.Struct(f"={len(REGISTER_NAMES)}{_WORD}").unpack
_register = struct.Struct(f"={_WORD}").unpack_from
# Made at every stop: without declared types and with prepared arguments a call takes half the time.
_bare = ctypes.PyDLL(None).ptrace
_GETREGS, _regs_pointer = ctypes.c_long(GETREGS), ctypes.c_void_p(_regs_at)
_RESUMES = {number: ctypes.c_long(number) for number in (CONT, SYSCALL)}
_message = ctypes.c_ulong()


def raw_registers(pid: int) -> bytes:
    """Return struct user_regs_struct of a stopped tracee, for `registers_in` and `register_in`."""
    if _bare(_GETREGS, pid, None, _regs_pointer) == -1:
        request(GETREGS, pid, 0, _regs_at)
    return _regs.raw


def register_in(raw: bytes, index: int) -> int:
    """Return one register."""
    value: int = _register(raw, index * _register_size)[0]
    return value


_register_size = struct.calcsize(f"={_WORD}")


def getter(index: int) -> Callable[[bytes], tuple[int]]:
    """Return what unpacks one register of `raw_registers`, made once for a place that does it at every stop."""
    return struct.Struct(
        f"={index * _register_size}x{_WORD}{(len(REGISTER_NAMES) - 1 - index) * _register_size}x"
    ).unpack


def with_register(raw: bytes, index: int, value: int) -> bytes:
    """Return registers in which one is changed; a negative value is extended to its width."""
    at = index * _register_size
    mask = (1 << 8 * _register_size) - 1
    return raw[:at] + struct.pack(f"={_WORD}", value & mask) + raw[at + _register_size :]


def set_raw_registers(pid: int, raw: bytes) -> None:
    """Change the registers of a stopped tracee (PTRACE_SETREGS). Raises OSError: ESRCH."""
    held = ctypes.create_string_buffer(raw, len(raw))
    request(SETREGS, pid, 0, ctypes.addressof(held))


def registers(pid: int) -> tuple[int, ...]:
    """Return the registers of a stopped tracee in the order of REGISTER_NAMES."""
    return registers_in(raw_registers(pid))


def resume(number: int, pid: int) -> None:
    """Continue a stopped tracee without a signal (CONT, SYSCALL). Raises OSError: ESRCH."""
    if _bare(_RESUMES[number], pid, None, None) == -1:
        request(number, pid)


def event_message(pid: int) -> int:
    """Return the message of an event stop: the new thread's id, or the former id after exec (PTRACE_GETEVENTMSG)."""
    request(GETEVENTMSG, pid, 0, ctypes.addressof(_message))
    return _message.value


def syscall_info(pid: int) -> SyscallInfo:
    """Return the kind of a system-call stop and the ABI of the call (PTRACE_GET_SYSCALL_INFO, Linux 5.3)."""
    info = SyscallInfo()
    request(GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
    return info


_info = SyscallInfo()
_GETINFO, _info_size, _info_pointer = (
    ctypes.c_long(GET_SYSCALL_INFO), ctypes.c_size_t(ctypes.sizeof(_info)), ctypes.c_void_p(ctypes.addressof(_info)),
)  # fmt: skip


def call_arch(pid: int) -> int:
    """Return the ABI of the call at a system-call stop: ARCH_I386 or ARCH_X86_64. Raises OSError: ESRCH."""
    if _bare(_GETINFO, pid, _info_size, _info_pointer) == -1:
        request(GET_SYSCALL_INFO, pid, ctypes.sizeof(_info), ctypes.addressof(_info))
    arch: int = _info.arch
    return arch


def signal_mask(pid: int) -> bytes:
    """Return the blocked signals of a stopped tracee, the kernel's sigset_t of 8 bytes (PTRACE_GETSIGMASK)."""
    mask = ctypes.create_string_buffer(_SIGNALS)
    request(_GETSIGMASK, pid, _SIGNALS, ctypes.addressof(mask))
    return mask.raw


def set_signal_mask(pid: int, mask: bytes) -> None:
    """Change the blocked signals of a stopped tracee (PTRACE_SETSIGMASK)."""
    held = ctypes.create_string_buffer(mask, _SIGNALS)
    request(_SETSIGMASK, pid, _SIGNALS, ctypes.addressof(held))


def to_exit(pid: int) -> None:
    """Continue a stopped tracee to its next syscall-exit-stop, past every stop before. Raises OSError: ESRCH if it dies."""
    while True:
        resume(SYSCALL, pid)
        _, status = os.waitpid(pid, WALL)
        if not os.WIFSTOPPED(status):
            raise OSError(errno.ESRCH, f"{pid} ended at a call that it was made to make")
        if status >> 8 == signal.SIGTRAP | 0x80 and syscall_info(pid).op == _INFO_EXIT:
            return


#: Descriptors of /proc/TID/mem by tid. At most _ROOM are open: a program may have more threads than RLIMIT_NOFILE allows.
_memories: dict[int, int] = {}
_ROOM = 256


_CHUNK = 0x10000
_copied = (ctypes.c_char * _CHUNK)()
#: Arguments of process_vm_readv: two arrays of one struct iovec, their lengths, the flags.
_here, _there = ((ctypes.c_size_t * 2)(ctypes.addressof(_copied), 0) for _ in range(2))
_one, _no_flags = ctypes.c_ulong(1), ctypes.c_ulong(0)
_readv = getattr(ctypes.PyDLL(None), "process_vm_readv", None)
#: The tracee that was read last by process_vm_readv, and those whose file has been seen to hold the same memory.
_last = 0
_same: set[int] = set()
_pread = os.pread


def read(tid: int, address: int, size: int) -> bytes:
    """Return up to `size` bytes of a tracee's memory, fewer if an unmapped page follows.

    process_vm_readv(2) needs no descriptor: one tracee of many is read by it. A tracee that is read twice in a row, as
    the only one of a sandbox is, has its file opened, which is read in two thirds of the time. Without /proc, or with that
    of another pid namespace, where the number is another process, process_vm_readv goes on.
    """
    global _last
    if tid in _same:
        try:
            return _pread(_memories[tid], size, address)
        except (OSError, OverflowError, KeyError):
            return _read_file(tid, address, size)
    if _readv is not None and 0 <= size <= _CHUNK:
        _here[1] = _there[1] = size
        _there[0] = address
        if _readv(tid, _here, _one, _there, _one, _no_flags) == size:
            data: bytes = _copied[:size]  # type: ignore[assignment]  # of an array of c_char: bytes
            if tid == _last and data.strip(b"\0") and _read_file(tid, address, size) == data:
                _same.add(tid)
            _last = tid
            return data
    # Refused, or less is readable: /proc/PID/mem has memory of any protection, as far as it goes.
    return _read_file(tid, address, size)


def readable(tid: int, address: int, size: int) -> bool:
    """Return True if a tracee may read this memory itself, as far as process_vm_readv(2) is there to find out."""
    if _readv is None:
        return True
    _here[1] = _there[1] = size
    _there[0] = address
    return bool(_readv(tid, _here, _one, _there, _one, _no_flags) == size)


def _read_file(tid: int, address: int, size: int) -> bytes:
    """Return the same by /proc/TID/mem."""
    try:
        memory = _memories.get(tid)
        if memory is None:
            if len(_memories) >= _ROOM:
                close_memory(next(iter(_memories)))
            memory = _memories[tid] = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        return _pread(memory, size, address)
    except (OSError, OverflowError):
        return b""


def write(tid: int, address: int, data: bytes) -> None:
    """Change a tracee's memory, whatever its protection. Does nothing where none is mapped."""
    with suppress(OSError):
        memory = os.open(f"/proc/{tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(memory, data, address)
        finally:
            os.close(memory)


def close_memory(tid: int) -> None:
    """Close the memory of a tracee that has ended or executed a program: after exec it has another address space."""
    _same.discard(tid)
    memory = _memories.pop(tid, None)
    if memory is not None:
        os.close(memory)


def prctl(option: int, value: int = 0, pointer: int = 0) -> None:
    """Call prctl with an integer and a pointer argument. Raises OSError."""
    if _libc.prctl(option, value, pointer, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl {option}: {os.strerror(error)}")


def set_filter(program: Sequence[bytes], no_new_privs: bool = True) -> None:
    """Install a seccomp filter in this process (PR_SET_SECCOMP); it cannot be removed.

    Raises OSError: EINVAL if the kernel rejects the program; EACCES without CAP_SYS_ADMIN unless PR_SET_NO_NEW_PRIVS is
    set, as `no_new_privs` does.
    """
    code = ctypes.create_string_buffer(b"".join(program))
    fprog = (ctypes.c_size_t * 2)(len(program), ctypes.addressof(code))
    if no_new_privs:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(fprog))


def is_gone(error: OSError) -> bool:
    """Return True for the error of a request whose tracee died after its stop (ESRCH)."""
    return error.errno == errno.ESRCH
