"""Find how calls entered the kernel: by which ABI, through which gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from probes.entry.gate import Gate
from probes.entry.vdso import LANDING, vdso_range
from probes.trace import ptrace
from probes.trace.traced_call import IP, SP


class Entry(NamedTuple):
    """Says how a call entered the kernel: by the i386 ABI or by that of x86-64, through which gate."""

    i386: bool
    gate: str


#: The entry of every call made at an int80 gate of this process; compared by identity.
INT80_GATE = Entry(True, "int80")
#: Bytes of the instruction int $0x80, with which the landing pad of the vDSO begins.
_INT80_SIZE = 2


class Entries:
    """Knows the entries that were seen, by instruction pointer: those of gates, and those of programs by process."""

    def __init__(self, gates: Sequence[Gate] | None) -> None:
        """Take the gates; None: calls of any program are traced."""
        self._any = gates is None
        self._gates = {gate.ip: gate for gate in gates or ()}
        self._vdso_returns = {gate.returns.to_bytes(4, "little") for gate in gates or () if gate.name == "vdso"}
        self._by_process: dict[int, dict[int, Entry]] = {}
        #: Those of the gates are equal in all processes, which inherit the pages.
        self.at_gates: dict[int, Entry] = {}

    def find(self, pid: int, tid: int, ip: int, from_32_bits: bool) -> Entry:
        """Return the entry of a call of a stopped tracee; `from_32_bits`: of 32-bit code of a 64-bit kernel."""
        known = self.at_gates if ip in self._gates else self._by_process.setdefault(pid, {})
        entry = known.get(ip)
        if from_32_bits and entry is not None and entry.i386:
            return entry
        if entry is None or self._any:
            # A program may write other code to the same address: the ABI is read at every call.
            i386 = from_32_bits or ptrace.call_arch(tid) == ptrace.ARCH_I386
            if entry is None or entry.i386 != i386:
                entry = Entry(i386, self._gate(pid, tid, ip, i386))
                if ip in self._gates and entry == INT80_GATE:
                    entry = INT80_GATE
                known[ip] = entry
        return entry

    def is_of_gate(self, tid: int, entry: Entry, regs: tuple[int, ...]) -> bool:
        """Return True if a call was made through one of the gates."""
        if entry.gate != "vdso":
            return regs[IP] in self._gates
        # Other code calls through the vDSO too. The return address lies above the three registers that it pushed.
        return ptrace.read(tid, regs[SP] + 12, 4) in self._vdso_returns

    def forget(self, pid: int) -> None:
        """Forget the entries of a process that has ended or executed a program."""
        self._by_process.pop(pid, None)

    def _gate(self, pid: int, tid: int, ip: int, i386: bool) -> str:
        if ip in self._gates:
            return self._gates[ip].name
        if not i386:
            return "syscall"
        try:
            return "vdso" if ip in vdso_range(pid) else "int80"
        except OSError:
            # Without /proc, or with that of another namespace: by the code.
            return "vdso" if ptrace.read(tid, ip - _INT80_SIZE, len(LANDING)) == LANDING else "int80"
