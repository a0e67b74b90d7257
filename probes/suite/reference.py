"""What a run is judged against, and where genuine kernels differ."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.gate import WORD

ABIS = ("i386", "ia32-compat")
#: Where user memory of a native i386 process ends (arch/x86/Kconfig VMSPLIT_3G); on x86-64 its stack lies above.
_NATIVE_TOP = 0xC0000000


@dataclass(frozen=True)
class Reference:
    """A genuine kernel: `abi` is "i386" (native) or "ia32-compat" (the x86-64 kernel's entry), `version` (6, 1)."""

    abi: str
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.abi} {self.version[0]}.{self.version[1]}"


def parse(text: str) -> Reference:
    """`ia32-compat-6.18` → Reference. Raises ValueError."""
    match = re.fullmatch(r"(i386|ia32-compat)-(\d+)\.(\d+)", text)
    if match is None:
        raise ValueError(f"{text!r} is not ABI-VERSION with ABI one of {', '.join(ABIS)}: i386-6.1")
    return Reference(match[1], (int(match[2]), int(match[3])))


def local() -> Reference:
    """The kernel that we run on, taken for genuine."""
    major, minor = re.match(r"(\d+)\.(\d+)", os.uname().release).groups()  # type: ignore[union-attr]
    return Reference("ia32-compat" if WORD == 64 or _above_native() else "i386", (int(major), int(minor)))


def _above_native() -> bool:
    # Not uname: a personality may have changed what that says.
    lines = Path("/proc/self/maps").read_text().splitlines()
    return any(line.endswith("[stack]") and int(line.partition("-")[0], 16) >= _NATIVE_TOP for line in lines)


@dataclass(frozen=True)
class Difference:
    """A cited fact that native i386 and the x86-64 kernel's compat entry answer differently."""

    i386: object
    ia32_compat: object
    cite: str

    def value(self, reference: Reference) -> object:
        """The value that this reference answers."""
        return self.i386 if reference.abi == "i386" else self.ia32_compat


@dataclass(frozen=True)
class Changed:
    """A cited fact that a kernel version changed: `before` until it, `after` from it on. `version` like "6.2"."""

    version: str
    before: object
    after: object
    cite: str

    def value(self, reference: Reference) -> object:
        """The value that this reference answers."""
        major, minor = self.version.split(".")
        return self.after if reference.version >= (int(major), int(minor)) else self.before


def resolved(value: object, reference: Reference) -> tuple[object, dict[str, Any] | None]:
    """(the value expected of this reference, the difference as the files carry it or None)."""
    if not isinstance(value, Difference | Changed):
        return value, None
    inner, _ = resolved(value.value(reference), reference)
    noted = _noted(value)
    assert isinstance(noted, dict)
    return inner, noted


def _noted(value: object) -> object:
    if isinstance(value, Difference):
        return {"cite": value.cite, "i386": _noted(value.i386), "ia32-compat": _noted(value.ia32_compat)}
    if isinstance(value, Changed):
        before, after = f"before {value.version}", f"since {value.version}"
        return {"cite": value.cite, before: _noted(value.before), after: _noted(value.after)}
    return value
