"""Where namespaces, /proc, ptrace or seccomp are restricted, tests run in the isolation that works, which is said once."""

import os
import subprocess
import sys

import pytest

from probes.cli import doctor
from probes.entry.agent import Agent
from probes.entry.agent_frames import AgentError
from probes.entry.gate import WORD
from probes.installation import checkout
from probes.sandbox.trial import Found
from tests.instruments.support import (
    COMMAND_DEADLINE,
    ONE_GATE,
    installed,
    missing,
    run_check,
    run_command,
    write_tests,
)

#: Installs seccomp filters like those of a container's profile, each for both architectures, and executes a command.
PROFILE = """
import os, sys
from probes.trace import ptrace, seccomp
from probes.trace.seccomp import RET_ALLOW, RET_ERRNO, _op
I386, X86_64 = ptrace.ARCH_I386, ptrace.ARCH_X86_64
def refusing_flags(arch, number, flags):
    return [_op(0x20, 4), _op(0x15, arch, 0, 5), _op(0x20, 0), _op(0x15, number, 0, 3), _op(0x20, 16),
            _op(0x45, flags, 0, 1), _op(6, RET_ERRNO | 1), _op(6, RET_ALLOW)]
def refusing_filters(arch, number):
    return [_op(0x20, 4), _op(0x15, arch, 0, 5), _op(0x20, 0), _op(0x15, number, 0, 3), _op(0x20, 16),
            _op(0x15, ptrace.PR_SET_SECCOMP, 0, 1), _op(6, RET_ERRNO | 1), _op(6, RET_ALLOW)]
def refusing_namespaces(flags):
    return [refusing_flags(X86_64, 272, flags), refusing_flags(X86_64, 56, flags),
            refusing_flags(I386, 310, flags), refusing_flags(I386, 120, flags)]
profiles = {
    "ptrace": [seccomp.answering(101, 1, X86_64), seccomp.answering(26, 1, I386)],
    "namespaces": refusing_namespaces(0x7E020000),
    "user-namespaces": refusing_namespaces(0x10000000),
    "seccomp": [seccomp.answering(317, 1, X86_64), seccomp.answering(354, 1, I386),
                # The one for this process last: it is the last filter that this process can install.
                *[refusing_filters(X86_64, 157), refusing_filters(I386, 172)][:: -1 if sys.maxsize > 2**32 else 1]],
}
for name in sys.argv[1].split(","):
    for program in profiles[name]:
        ptrace.set_filter(program)
os.execv(sys.argv[2], sys.argv[2:])
"""
#: In a mount and user namespace: the words after it, as root there.
INSIDE = ("unshare", "--map-root-user", "--mount", "sh", "-ec")
RUN = 'exec "$0" "$@"'
#: In a network namespace in which no link is up: only there are tests without isolation harmless.
APART = ("unshare", "--map-root-user", "--net")
LINKED = "ip link add v0 type veth peer name v1; ip link set v0 up"
BELOW = """
mkdir place; mount -t tmpfs none place; mount --make-shared place; mkdir place/root
for path in /*; do
    if [ -L $path ]; then cp -P $path place/root; elif [ -d $path ]; then
        mkdir place/root$path; mount --rbind $path place/root$path; fi
done
"""
NO_MORE = "echo 0 > /proc/sys/user/max_user_namespaces"
ROOT = os.geteuid() == 0
NO_USER = "full: no user namespace: Operation not permitted"
NO_NET = "net: no network namespace: Operation not permitted"
#: The filters of these tests answer no socket call.
PASSING = ", under a seccomp filter, which answers none of the socket calls that were tried"
UNTRACED = "tracing: cannot trace a child: Operation not permitted"
#: Without a user namespace root needs none for the others.
WITHOUT_USER = f"net, traced ({NO_USER})" if ROOT else f"none, traced ({NO_USER.replace('full', 'full, net')})"
REFUSED = f"{NO_USER}; {NO_NET}" if ROOT else NO_USER.replace("full", "full, net")
#: The beginning of a command line, and what of the isolation is said.
SURROUNDINGS = {
    "ordinary": ((), ""),
    "a chroot": ((*INSIDE, f"mkdir root; mount --rbind / root; exec chroot root {RUN[5:]}"), f"net, traced ({NO_USER})"),
    "a chroot whose root is no mount": (
        (*INSIDE, f"{BELOW}exec chroot place/root {RUN[5:]}"), f"net, traced ({NO_USER})"
    ),
    "bubblewrap": (
        ("bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc"),
        "net, traced (full: mount proc on /proc: Operation not permitted)",
    ),
    "no more user namespaces": (
        (*INSIDE, f"{NO_MORE}; {RUN}"), "net, traced (full: no user namespace: No space left on device)"
    ),
    "no more user namespaces and no capabilities": (
        (*APART, *INSIDE, f"{NO_MORE}; exec setpriv --bounding-set=-all --inh-caps=-all {RUN[5:]}"),
        "none, traced (full, net: no user namespace: No space left on device)",
    ),
    "no ptrace": ("ptrace", f"full, not traced ({UNTRACED})"),
    "no namespaces": ("namespaces", f"none, traced ({REFUSED})"),
    "no user namespaces": ("user-namespaces", WITHOUT_USER),
    "no seccomp": ("seccomp", "full, traced (tracing: no seccomp filter: Operation not permitted)"),
    "none of them": ("ptrace,namespaces,seccomp", f"none, not traced ({REFUSED}; {UNTRACED})"),
}  # fmt: skip
JUDGES = '''
@law
def test_one(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))

@behaviour("made.m0.other", "this test")
def test_other(calls, expect):
    """It fails again, in another sandbox."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''


def prefix_of(name):
    if name == "bubblewrap":
        installed("bubblewrap")
    words, said = SURROUNDINGS[name]
    if not isinstance(words, str):
        return words
    return (*(APART if said.startswith("none") else ()), sys.executable, "-c", PROFILE, words)


def passing_of(name):
    """Return what is said of a profile of this file, "" if there is none."""
    return PASSING if isinstance(SURROUNDINGS[name][0], str) else ""


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_check(name, tmp_path):
    """`check` judges, and its first line says in which isolation, if that is not the best."""
    write_tests(tmp_path, JUDGES)
    ended = run_check(tmp_path, prefix=prefix_of(name))
    said = SURROUNDINGS[name][1]
    assert ended.status == 0, ended.out + ended.err
    assert ended.verdicts == ["conforms", "conforms"]
    assert ended.out.count("isolation") == (1 if said else 0)
    first = f"isolation {said}{passing_of(name)}\n" if said else f"{WORD}-bit Python"
    assert ended.out.startswith(f"socketcall: {first}"), ended.out
    target = ended.lines("results.jsonl")[0]["target"]
    isolation, _, traced = (said or "full, traced").partition(" (")[0].partition(", ")
    assert (target["isolation"], target["traced"]) == (isolation, traced == "traced")


REFUSED_SET_UP = '''
@law
def test_namespace(caller, calls, expect):
    """Needs a user namespace."""
    caller.unshare(0x10000000)
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))

@behaviour("made.m0.capability", "this test")
def test_capability(caller, calls, expect):
    """Needs a capability."""
    caller.keep_capabilities(["CAP_SYS_CHROOT"])
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''


@pytest.mark.parametrize("caller", ["python", "agent"])
def test_refused_set_up_is_not_applicable(caller, tmp_path):
    """A test for which the caller cannot have a user namespace or a capability is not applicable, and names it."""
    try:
        Agent().close()
    except (AgentError, OSError) as error:
        missing(f"a kernel that runs i386 programs: {error}")
    write_tests(tmp_path, REFUSED_SET_UP)
    without = f"{NO_MORE}; exec setpriv --bounding-set=-sys_chroot --inh-caps=-sys_chroot {RUN[5:]}"
    ended = run_check(tmp_path, "--isolation", "net", "--caller", caller, prefix=(*APART, *INSIDE, without))
    assert [(check["verdict"], check["detail"]) for check in ended.checks] == [
        ("not_applicable", "user namespaces: No space left on device"),
        ("not_applicable", "the capability CAP_SYS_CHROOT"),
    ], ended.out + ended.err


def test_none_is_not_chosen_where_a_link_is_up(tmp_path):
    """Tests without isolation run on a network only if that is asked for."""
    write_tests(tmp_path, JUDGES)
    installed("iproute2")
    profile = (sys.executable, "-c", PROFILE, "namespaces")
    prefix = (*APART, "sh", "-ec", f"{LINKED}; {RUN}", *profile)
    ended = run_check(tmp_path, prefix=prefix)
    assert ended.status == 2, ended.out + ended.err
    assert len(ended.err.splitlines()) == 1
    assert "none: tests would send to link v0 and change settings here: --isolation none allows it" in ended.err
    assert run_check(tmp_path, "--isolation", "none", prefix=prefix).verdicts == ["conforms", "conforms"]


def run_pytest(directory, *args, prefix):
    """Run pytest on the tests in a directory, with the plugin."""
    plugins = ("-p", "probes.testing.fixtures", "-p", "probes.plugin.plugin", "-p", "no:cacheprovider")
    where = ("-c", str(checkout() / "pyproject.toml"), f"--rootdir={directory}", str(directory / "tests"))
    return subprocess.run(
        [*prefix, sys.executable, "-m", "pytest", *plugins, *where, *args], cwd=directory,
        env={**os.environ, "PYTHONPATH": str(checkout())}, capture_output=True, text=True, timeout=COMMAND_DEADLINE,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("words", [[], ["-n", "2"]], ids=" ".join)
def test_pytest(words, tmp_path):
    """pytest, which tox runs, says it once, also for all workers of pytest-xdist."""
    write_tests(tmp_path, JUDGES)
    done = run_pytest(tmp_path, *ONE_GATE, *words, prefix=prefix_of("no ptrace"))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(f"isolation {SURROUNDINGS['no ptrace'][1]}") == 1, done.stdout
    assert done.stdout.count("isolation") == 1


def test_pytest_where_no_test_can_run(tmp_path):
    """One line says what is missing, and nothing else runs."""
    write_tests(tmp_path, JUDGES)
    done = run_pytest(tmp_path, "--isolation=net", prefix=prefix_of("no namespaces"))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert [line for line in done.stderr.splitlines() if line] == [
        f"ERROR: no sandbox: {REFUSED.rpartition('; ')[2].replace('full, ', '')}; run as root, allow user namespaces "
        "(user.max_user_namespaces, the container's profile)"
    ]


def test_doctor_sums_up(tmp_path):
    """The last line has the isolation, and what each part of the suite lacks."""
    last = run_command(tmp_path, "doctor", prefix=prefix_of("no ptrace")).out.splitlines()[-1]
    assert last.startswith(f"check: isolation {SURROUNDINGS['no ptrace'][1]}{PASSING}; ")
    lacking = doctor.Finding(False, "x", parts=("i386", "vm"), name="x")
    ready = doctor.Finding(True, "y", parts=("vm", "bench"), name="y")
    line = doctor.summary(Found("full", "gate"), [lacking, ready])
    assert line == "check: isolation full, traced; i386: lacks x; vm: lacks x; bench: ready"
