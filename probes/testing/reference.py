"""Names the kernel that a run is judged against, and values on which genuine kernels differ."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from probes.entry.gate import entry_abi
from probes.report.check import Json
from probes.report.references import StoredRun, stored

ABIS = ("i386", "ia32-compat")


@dataclass(frozen=True)
class Reference:
    """Names a genuine kernel: `abi` is "i386" (native) or "ia32-compat" (compat entry of x86-64), `version` (6, 1, 176)."""

    abi: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        """Returns "i386 6.1.176"."""
        return f"{self.abi} {'.'.join(map(str, self.version))}"

    def has(self, since: str) -> bool:
        """Returns True if a change is in this kernel. "6.3, 6.1.32": released with 6.3 and backported to 6.1.32."""
        first, *stable = (_numbers(version) for version in since.split(", "))
        return self.version >= first or any(
            version <= self.version and self.version[:2] == version[:2] for version in stable
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def parse(text: str) -> Reference:
    """Parses "ia32-compat-6.18", "i386-6.1.176", or "local", the running kernel. Raises ValueError."""
    if text == "local":
        return local()
    match = re.fullmatch(r"(i386|ia32-compat)-(\d+\.\d+(?:\.\d+)?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not local, and not ABI-VERSION with ABI one of {', '.join(ABIS)}: i386-6.1.176")
    return Reference(match[1], _numbers(match[2]))


@functools.cache
def local() -> Reference:
    """Returns the running kernel as a reference, taken for genuine."""
    host = os.uname()
    return Reference(entry_abi(), version_of(host.release, host.version))


@functools.cache
def of_another(hosted: bool) -> Reference:
    """Returns what an implementation other than Linux is judged against: a native i386 kernel of a measured version.

    The version is the newest measured natively; of one that is `hosted`, whose calls this machine's kernel answers, the
    newest measured that is not newer than this kernel, or the oldest.
    """
    runs = stored()
    if not hosted:
        return max((_stored(run) for run in runs if run.kernel["abi"] == "i386"), key=lambda one: one.version)
    here = local().version
    versions = sorted(_stored(run).version for run in runs)
    return Reference("i386", next((one for one in reversed(versions) if one <= here), versions[0]))


def of_kernel(kernel: Mapping[str, str]) -> Reference:
    """Returns a genuine Linux that says of itself by uname(2): release, version, machine."""
    abi = "ia32-compat" if kernel["machine"] == "x86_64" else "i386"
    return Reference(abi, version_of(kernel["release"], kernel["version"]))


def _stored(run: StoredRun) -> Reference:
    return parse(run.reference.replace(" ", "-"))


def version_of(release: str, version: str) -> tuple[int, ...]:
    """Returns a kernel's version from the release and version fields of uname(2)."""
    # Debian's release names the ABI (6.1.0-50); the stable version is in the version field (Debian 6.1.176-1).
    found = re.search(r"Debian (\d+\.\d+\.\d+)", version) or re.match(r"(\d+\.\d+(?:\.\d+)?)", release)
    assert found is not None
    return _numbers(found[1])


@dataclass(frozen=True)
class AbiDifference:
    """Holds a value on which native i386 and the compat entry of x86-64 differ; `cite` is a commit or a source."""

    i386: object
    ia32_compat: object
    cite: str

    def value(self, reference: Reference) -> object:
        """Returns the value for a reference."""
        return self.i386 if reference.abi == "i386" else self.ia32_compat


@dataclass(frozen=True)
class VersionDifference:
    """Holds a value that changed with a kernel version: `before` and `after` it; `cite` is the commit.

    `version` is like "6.2", or like "6.3, 6.1.32" for a change that was backported to a stable kernel: see
    Reference.has.
    """

    version: str
    before: object
    after: object
    cite: str

    def value(self, reference: Reference) -> object:
        """Returns the value for a reference."""
        return self.after if reference.has(self.version) else self.before


#: A value on which genuine kernels differ.
KernelDifference = AbiDifference | VersionDifference


def resolved(value: object, reference: Reference) -> tuple[object, dict[str, Json] | None]:
    """Returns (the value expected of this reference, the difference as results.jsonl carries it or None)."""
    if not isinstance(value, KernelDifference):
        return value, None
    inner, _ = resolved(value.value(reference), reference)
    return inner, _as_json(value)


def _as_json(difference: KernelDifference) -> dict[str, Json]:
    if isinstance(difference, AbiDifference):
        values = {"i386": difference.i386, "ia32-compat": difference.ia32_compat}
    else:
        values = {f"before {difference.version}": difference.before, f"since {difference.version}": difference.after}
    inner = {name: _as_json(value) if isinstance(value, KernelDifference) else value for name, value in values.items()}
    return {"cite": difference.cite, **inner}
