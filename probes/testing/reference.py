"""What a run is judged against, and where genuine kernels differ."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.entry.gate import WORD

ABIS = ("i386", "ia32-compat")
#: Where user memory of a native i386 process ends (arch/x86/Kconfig VMSPLIT_3G); on x86-64 its stack lies above.
_NATIVE_TOP = 0xC0000000


@dataclass(frozen=True)
class Reference:
    """A genuine kernel: `abi` is "i386" (native) or "ia32-compat" (the x86-64 kernel's entry), `version` (6, 1, 176)."""

    abi: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.abi} {'.'.join(map(str, self.version))}"

    def has(self, since: str) -> bool:
        """Whether it has what came with a version. "6.3, 6.1.32": with 6.3, and into the stable 6.1 with 6.1.32."""
        first, *stable = (_numbers(version) for version in since.split(", "))
        return self.version >= first or any(
            version <= self.version and self.version[:2] == version[:2] for version in stable
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def parse(text: str) -> Reference:
    """`ia32-compat-6.18` or `i386-6.1.176` → Reference. Raises ValueError."""
    match = re.fullmatch(r"(i386|ia32-compat)-(\d+\.\d+(?:\.\d+)?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not ABI-VERSION with ABI one of {', '.join(ABIS)}: i386-6.1.176")
    return Reference(match[1], _numbers(match[2]))


def local() -> Reference:
    """The kernel that we run on, taken for genuine."""
    host = os.uname()
    return Reference("ia32-compat" if WORD == 64 or _above_native() else "i386", version_of(host.release, host.version))


def version_of(release: str, version: str) -> tuple[int, ...]:
    """The version of a kernel by what uname says of it."""
    # Debian's release is that of its ABI, 6.1.0-50; which stable kernel it is stands beside it: Debian 6.1.176-1.
    found = re.search(r"Debian (\d+\.\d+\.\d+)", version) or re.match(r"(\d+\.\d+(?:\.\d+)?)", release)
    assert found is not None
    return _numbers(found[1])


def _above_native() -> bool:
    # Not uname: a personality may have changed what that says.
    lines = Path("/proc/self/maps").read_text().splitlines()
    return any(line.endswith("[stack]") and int(line.partition("-")[0], 16) >= _NATIVE_TOP for line in lines)


@dataclass(frozen=True)
class AbiDifference:
    """A cited fact that native i386 and the x86-64 kernel's compat entry answer differently."""

    i386: object
    ia32_compat: object
    cite: str

    def value(self, reference: Reference) -> object:
        """The value that this reference answers."""
        return self.i386 if reference.abi == "i386" else self.ia32_compat


@dataclass(frozen=True)
class VersionDifference:
    """A cited fact that a kernel version changed: `before` until it, `after` from it on. `version` like "6.2", or like
    "6.3, 6.1.32" for what a stable kernel took over: see Reference.has."""

    version: str
    before: object
    after: object
    cite: str

    def value(self, reference: Reference) -> object:
        """The value that this reference answers."""
        return self.after if reference.has(self.version) else self.before


def resolved(value: object, reference: Reference) -> tuple[object, dict[str, Any] | None]:
    """(the value expected of this reference, the difference as the files carry it or None)."""
    if not isinstance(value, AbiDifference | VersionDifference):
        return value, None
    inner, _ = resolved(value.value(reference), reference)
    noted = _noted(value)
    assert isinstance(noted, dict)
    return inner, noted


def _noted(value: object) -> object:
    if isinstance(value, AbiDifference):
        return {"cite": value.cite, "i386": _noted(value.i386), "ia32-compat": _noted(value.ia32_compat)}
    if isinstance(value, VersionDifference):
        before, after = f"before {value.version}", f"since {value.version}"
        return {"cite": value.cite, before: _noted(value.before), after: _noted(value.after)}
    return value
