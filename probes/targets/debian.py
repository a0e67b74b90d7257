"""Fetches Debian packages and builds roots from them, through the mirror and settings of this machine's apt and pip."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from probes.targets import store
from probes.targets.store import CannotBuild, Progress, Recipe, tool

SUITES = ("bookworm", "bookworm-updates")  # not security: its i386 index fails its size check
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FETCH_DEADLINE = 600.0
ROOT_DEADLINE = 1800.0


def sources(suites: Sequence[str] = SUITES) -> list[str]:
    """Returns apt source lines for Debian suites, at the mirror of this machine's apt. Raises CannotBuild."""
    wanted = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    for line in store.run(["apt-get", "indextargets", "--format", wanted], 60).splitlines():
        if line.startswith("Debian|Debian|main|"):
            mirror = line.split("|", 3)[3]
            signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
            return [f"deb {signed}{mirror} {suite} main" for suite in suites]
    raise CannotBuild(
        "apt on this machine has no Debian archive; run apt-get update, or add a source with the suite "
        f"{SUITES[0]} and the component main, and try again"
    )


def packages(into: Path, architecture: str, pattern: str, suites: Sequence[str] = SUITES) -> None:
    """Unpacks the newest Debian package whose name matches, without its dependencies.

    It neither uses nor changes dpkg's database and the state of this machine's apt. Raises CannotBuild.
    """
    state = into / ".apt"
    for directory in ("lists/partial", "cache/archives/partial"):
        (state / directory).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text("".join(f"{line}\n" for line in sources(suites)))
    conf = state / "apt.conf"
    conf.write_text(
        f'Dir::State "{state}"; Dir::State::status "{state}/status"; Dir::Cache "{state}/cache";\n'
        f'Dir::Etc::SourceList "{state}/sources.list"; Dir::Etc::SourceParts "/dev/null";\n'
        'Dir::Etc::Preferences "/dev/null"; Dir::Etc::PreferencesParts "/dev/null";\n'
        "#clear APT::Architectures;\n"
        f'APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};\n'
        'APT::Sandbox::User ""; Acquire::Languages "none";\n'  # _apt cannot reach a directory below a closed home
        # Hooks of this machine's apt would act on its state.
        "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"
    )
    store.run(["apt-get", "-c", str(conf), "update", "-q", "--error-on=any"], FETCH_DEADLINE)
    listed = store.run(["apt-cache", "-c", str(conf), "pkgnames"], FETCH_DEADLINE).split()
    found = sorted((name for name in listed if re.fullmatch(pattern, name)), key=_numbers)
    if not found:
        raise CannotBuild(f"{suites[0]} at this machine's mirror has no {architecture} package {pattern}")
    store.run(["env", "-C", str(state), "apt-get", "-c", str(conf), "download", "-q", found[-1]], FETCH_DEADLINE)
    for archive in sorted(state.glob("*.deb")):
        store.run(["dpkg-deb", "-x", str(archive), str(into)], 120)
    shutil.rmtree(state)


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def bootstrap(into: Path, wanted: Sequence[str], architecture: str = "i386", suites: Sequence[str] = SUITES) -> Path:
    """Makes a Debian root with the wanted packages, and returns its archive. Raises CannotBuild, CommandFailed."""
    archive = into / "root.tar"
    mode, prefix, env = "unshare", list[str](), dict[str, str]()
    if os.geteuid() == 0:
        # Run by root, mmdebstrap mounts /proc, /sys and devices in the machine's mount namespace. If it is killed, the
        # mounts and its children must be gone before the next build removes its directory.
        mode, env = "root", {"TMPDIR": str(into)}
        prefix = store.contained()
    transport = re.compile(r"Acquire::(https?|Check-|Retries|ForceIPv)")
    settings = [line for line in store.run(["apt-config", "dump"], 60).splitlines() if transport.match(line)]
    store.run(
        [*prefix, tool("mmdebstrap"), f"--mode={mode}", "--variant=minbase", f"--architectures={architecture}",
         "--skip=check/qemu", f"--include={','.join(wanted)}", *(f"--aptopt={line}" for line in settings),
         suites[0], str(archive), *sources(suites)],
        ROOT_DEADLINE,
        env,
    )  # fmt: skip
    return archive


def unpack(archive: Path, into: Path) -> None:
    """Unpacks the archive of a root, without devices and without the settings for this machine's mirror."""
    leave = ("./dev/*", "./etc/apt/apt.conf.d/99mmdebstrap")
    store.run(["tar", "-xpf", str(archive), "-C", str(into), *(f"--exclude={path}" for path in leave)], FETCH_DEADLINE)


# pip

PIP_SETTINGS = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert"
)  # fmt: skip


def enter(root: Path, personality: Sequence[str] = ("setarch", "i686")) -> list[str]:
    """Returns the beginning of a command line that runs in an unfinished root, with this machine's pip settings."""
    variables = [part for name, value in _pip_settings().items() for part in ("--setenv", name, value)]
    return ["bwrap", "--die-with-parent", "--bind", str(root), "/", "--dev", "/dev", "--bind", "/proc", "/proc",
            "--tmpfs", "/tmp", "--ro-bind", "/", "/tmp/host", "--clearenv", *CLEAN, *variables,
            *personality]  # fmt: skip


CLEAN = (
    "--setenv", "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8",
)  # fmt: skip
"""Options of bubblewrap that set the variables of every root's environment."""


def _pip_settings() -> dict[str, str]:
    """Returns this machine's pip settings as variables, with its files below /tmp/host, where the root has them."""
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    found = {"cert": bundle} if Path(bundle).exists() else {}
    try:
        listed = store.run([sys.executable, "-m", "pip", "config", "list"], 60)
    except store.CommandFailed:  # a Python without pip has no settings
        listed = ""
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in PIP_SETTINGS:
            found[name] = str(ast.literal_eval(value))
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return proxies | {f"PIP_{name.upper().replace('-', '_')}": _seen_inside(value) for name, value in found.items()}


def _seen_inside(value: str) -> str:
    return " ".join(re.sub(r"^(file://)?/", r"\1/tmp/host/", word) for word in value.split())


def _busybox(into: Path, progress: Progress) -> None:
    packages(into, "i386", "busybox-static")


BUSYBOX = Recipe(
    name="busybox",
    what="Debian's static i386 busybox, at bin/busybox",
    build=_busybox,
    inputs=SUITES,
    megabytes=150,
)
