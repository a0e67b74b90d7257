"""Checks that this machine can run a test at all."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

from probes.entry import gate
from probes.errors import CommandError
from probes.sandbox import sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.messages import SandboxFailed
from probes.sandbox.sandbox import CannotSandbox, CannotTrace, SandboxSpec

#: How many descriptors tests may have open at once.
_DESCRIPTORS = 256
_NAMESPACES = "run as root, allow user namespaces (user.max_user_namespaces), or pass --isolation net|none"


def require_start(isolation: str) -> None:
    """Raises CommandError if no test can run here: no IA32 entry, no namespaces, or ptrace forbidden."""
    _require_descriptors()
    how = gate.int80_error()
    if how:
        raise CommandError(
            f"{how}: this kernel has no IA32 entry; boot one with CONFIG_IA32_EMULATION and no ia32_emulation=0"
        )
    if not Path("/proc/self").exists() or str(Path("/proc/self").readlink()) != str(os.getpid()):
        raise CommandError("/proc is of another pid namespace than this process; mount one of its own")
    with tempfile.TemporaryDirectory(prefix="socketcall-") as work:
        try:
            result = sandbox.run(lambda: None, SandboxSpec(isolation=isolation), Channel(1 << 16), Path(work), 30)
        except CannotTrace as error:
            raise CommandError(f"{error}; allow ptrace (kernel.yama.ptrace_scope, the container's profile)") from error
        except CannotSandbox as error:
            raise CommandError(f"no sandbox: {error}; {_NAMESPACES}") from error
    for message in result.messages:
        if isinstance(message, SandboxFailed):
            raise CommandError(f"no sandbox: {message.why}; {_NAMESPACES}")


def _require_descriptors() -> None:
    """Raises the soft limit of descriptors as far as it goes. Raises CommandError: that is not far enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS:
        if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
            raise CommandError(f"{hard} descriptors are too few for the tests: `ulimit -n {_DESCRIPTORS}` or more")
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))
