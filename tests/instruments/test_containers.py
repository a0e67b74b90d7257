"""In a container `check` judges what its seccomp profile lets pass, and says in one line what cannot be judged."""

import sys

import pytest

from tests.instruments.profiles import ALLOWED
from tests.instruments.support import installed, run_check, run_command, write_tests

#: A network namespace in which nothing but loopback is up, and the capabilities that a container engine leaves to root.
KEPT = (
    "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service", "net_raw",
    "sys_chroot", "mknod", "audit_write", "setfcap",
)  # fmt: skip
APART = ("unshare", "--map-root-user", "--net", "sh", "-ec", 'ip link set lo up; exec "$0" "$@"')
FEWER = ("setpriv", f"--bounding-set=-all,{','.join(f'+{name}' for name in KEPT)}")
EMPTY_ROOT = ("--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run")
JUDGES = '''
BAD_TYPE = 0x7FFFFF00

@law
def test_descriptor(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))

@behaviour("made.m0.family", "this test")
@pytest.mark.parametrize("family", [2, 38, 40, 44, 45, 46])
def test_family(calls, family, expect):
    """An unknown flag of the type is refused before the family is looked at."""
    expect(-errno.EINVAL).of(calls.socket(family, BAD_TYPE, 0))

@behaviour("made.m0.set-up", "this test")
def test_set_up(calls, expect):
    """What a socket of AF_ALG would do is not known if a filter refuses the socket."""
    made = calls.socket(38, 5, 0)
    if made == -errno.EAFNOSUPPORT:
        not_applicable("AF_ALG")
    need(made)
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''.replace("\n@law", '\npytestmark = pytest.mark.routes("socketcall", "direct")\n@law')


def under(profile):
    installed("iproute2")
    return (*APART, *FEWER, sys.executable, "-m", "tests.instruments.profiles", profile)


def filtered(profile, route, family):
    """Return whether a profile answers a call of `socket`, of bind for family None."""
    if route == "socketcall":
        return profile == "socketcall"
    if family is None:
        return False
    return family not in ALLOWED if profile == "families" else family in (38, 40)


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("families", "direct socket of 9 families"),
        ("socketcall", "socketcall, direct socket of AF_ALG and AF_VSOCK"),
        ("vsock", "direct socket of AF_ALG and AF_VSOCK"),
    ],
)
def test_profile(profile, said, tmp_path):
    """What the filter answers is not applicable, by name; what reaches the kernel is judged. One line says so."""
    write_tests(tmp_path, JUDGES)
    ended = run_check(tmp_path, prefix=under(profile))
    assert ended.status == 0, ended.out + ended.err
    first = ended.out.splitlines()[0]
    assert first.startswith("socketcall: isolation none, traced (full"), ended.out
    assert first.endswith(f"), under a seccomp filter, which answers {said}")
    assert ended.lines("results.jsonl")[0]["target"]["seccomp_filter"] == said
    judged = {"made.m0.law": 0, "made.m0.family": 0, "made.m0.set-up": 0}
    for check in ended.checks:
        judged[check["id"]] += 1
        family = {"made.m0.law": None, "made.m0.set-up": 38}.get(check["id"]) or check["case"].removeprefix("family=")
        family = None if check["id"] == "made.m0.law" else int(family)
        if filtered(profile, check["route"], family):
            assert check["verdict"] == "not_applicable", check
            assert check["detail"].startswith("the kernel's answer: a seccomp filter answered (-1 EPERM) "), check
        elif check["id"] != "made.m0.set-up":
            assert check["verdict"] == "conforms", check
    assert judged == {"made.m0.law": 2, "made.m0.family": 12, "made.m0.set-up": 2}
    answered = [line for line in ended.lines("evidence.jsonl") if line.get("filtered")]
    assert answered
    assert {line["ret"] for line in answered} == {-1}


def test_untraced_answers_of_a_filter_are_not_judged(tmp_path):
    """Where no tracer can tell the filter's answers from the kernel's, one line says so, and nothing is judged."""
    write_tests(tmp_path, JUDGES)
    ended = run_check(
        tmp_path, prefix=(*under("socketcall"), sys.executable, "-m", "tests.instruments.profiles", "ptrace")
    )
    assert (ended.status, ended.out) == (2, ""), ended.out
    (line,) = ended.err.splitlines()
    assert (
        "a seccomp filter answers socketcall, direct socket of AF_ALG and AF_VSOCK, and its answers cannot be" in line
    )
    assert "tracing: cannot trace a child: Operation not permitted" in line


def test_every_call_answered(tmp_path):
    """A filter that answers every socket call leaves nothing to judge: one line says so."""
    write_tests(tmp_path, JUDGES)
    ended = run_check(tmp_path, prefix=under("all"))
    assert (ended.status, ended.out) == (2, ""), ended.out
    assert len(ended.err.splitlines()) == 1
    assert "a seccomp filter answers every socket call here in place of the kernel" in ended.err


def test_bubblewrap_without_anything(tmp_path):
    """bwrap --unshare-all with a root that is read-only: judged, with a report where it can be written."""
    installed("bubblewrap")
    write_tests(tmp_path, JUDGES.replace("44, 45, 46", "44"))
    prefix = ("bwrap", *EMPTY_ROOT, "--bind", str(tmp_path), str(tmp_path))
    ended = run_check(tmp_path, prefix=prefix)
    assert ended.status == 0, ended.out + ended.err
    assert {check["verdict"] for check in ended.checks} <= {"conforms", "not_applicable"}
    assert "seccomp" not in ended.out
    doctor = run_command(tmp_path, "doctor", prefix=prefix)
    assert doctor.out.splitlines()[-1].startswith("check: isolation ")


READ_ONLY = "/proc/sys; mount -o remount,bind,ro /proc/sys"
SETS_SYSCTL = '''
from probes.testing import procfs

NAME = "net.ipv4.ip_default_ttl"

@law
def test_set(calls, expect):
    """What a test writes is there."""
    procfs.set_sysctl(NAME, 77)
    expect({"ttl": 77}).of({"ttl": procfs.sysctl(NAME)[0]}, calls.bind(-1, ADDRESS))

@behaviour("made.m0.next", "this test")
def test_next(calls, expect):
    """The next test finds what was there before."""
    expect({"ttl": 64}).of({"ttl": procfs.sysctl(NAME)[0]}, calls.bind(-1, ADDRESS))
'''


def test_sysctls_are_put_back(tmp_path):
    """Without a network namespace of its own a test leaves no sysctl changed; where none can be written it cannot run."""
    write_tests(tmp_path, SETS_SYSCTL)
    installed("iproute2")
    assert run_check(tmp_path, "--isolation", "none", prefix=APART).verdicts == ["conforms", "conforms"]
    read_only = (
        "unshare",
        "--mount",
        "sh",
        "-ec",
        'mount --bind -o ro /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$0" "$@"',
    )
    ended = run_check(tmp_path, "--isolation", "none", prefix=(*APART, *read_only))
    assert [(check["verdict"], check["detail"]) for check in ended.checks] == [
        ("not_applicable", "/proc/sys that can be written"), ("conforms", "")
    ], ended.out + ended.err  # fmt: skip


INTERRUPTED = '''
import os, signal, time
from probes.testing import procfs

@law
def test_set(calls, expect):
    """A statement."""
    procfs.set_sysctl("net.ipv4.ip_default_ttl", 77)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
'''


def test_sysctls_are_put_back_by_a_run_that_is_ended(tmp_path):
    """A signal that ends the run leaves no sysctl of the network that its tests share changed."""
    write_tests(tmp_path, INTERRUPTED)
    installed("iproute2")
    shell = 'ip link set lo up; "$0" "$@" || cat /proc/sys/net/ipv4/ip_default_ttl'
    ended = run_check(tmp_path, "--isolation", "none", prefix=(*APART[:-1], shell))
    assert ended.out.splitlines()[-1] == "64", ended.out + ended.err
    assert "ended by SIGTERM" in ended.out
