"""Tests the target vagrant: what is printed where it cannot run, and what becomes of a run whose guest fails."""

import fcntl
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from probes.cli.command_line import parsed
from probes.installation import checkout, packages
from probes.report.expectations import Expectations
from probes.report.reader import read
from probes.targets import box, debian, remote, store, vagrant
from probes.targets.store import CannotBuild
from tests.instruments.support import missing, unpacked, wait_for

KERNEL = box.DEFAULT
#: Seconds in which a VM is made, or resumes.
BOOT_DEADLINE = 600
#: Seconds in which the loss of a guest is detected.
LOSS_DEADLINE = 60


def quiet(line):
    """Drop a progress line."""


def begin():
    """Start the VM, and end it."""
    with vagrant.guest(KERNEL, quiet):
        pass


@pytest.mark.parametrize("name", [*vagrant.TOOLS, *{vagrant.qemu(kernel) for kernel in box.KERNELS}])
def test_every_tool_has_a_package(name):
    assert any(name in package.shows for package in packages())


def test_without_vagrant_its_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotBuild, match=r"^vagrant is missing on this machine; install Debian's package vagrant$"):
        begin()


def test_only_root_can_run_it(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotBuild, match=f"vagrant:{KERNEL}: its network and daemons need root; run as root, or "):
        begin()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["vagrant:9.9"], "no target is called 'vagrant:9.9': local, i386, python:trixie"),
        ([f"vagrant:{KERNEL}", "--", "--no-such-option"], "unrecognized arguments: --no-such-option"),
        ([f"vagrant:{KERNEL}", "--", "--expect", "/nonexistent"], "cannot read /nonexistent"),
        ([f"vagrant:{KERNEL}", "--", "--list"], "use `socketcall check --list`"),
        ([f"vagrant:{KERNEL}", "--", "--shard", "3/2"], "'3/2' is not I/N with I from 1 to N"),
    ],
)
def test_wrong_arguments_are_reported_before_a_machine_is_started(socketcall, monkeypatch, words, says):
    # A start of the machine would fail for want of a tool.
    monkeypatch.setenv("PATH", "/nonexistent")
    judged = socketcall("target", "run", *words)
    assert judged.status == 2
    assert says in judged.err
    assert judged.err.count("\n") == 1


# Tests that need the box


@pytest.fixture
def built():
    """Return the path of its box, if this machine can start it."""
    if os.geteuid() != 0:
        pytest.skip("root: libvirt's daemons and network need it")
    try:
        for name in (*vagrant.TOOLS, vagrant.qemu(KERNEL)):
            store.tool(name)
    except CannotBuild as why:
        missing(why)
    place = store.have(box.box(KERNEL))
    return place or missing(f"its box: socketcall target build vagrant:{KERNEL}")


@pytest.fixture
def other_cache(built, tmp_path, monkeypatch):
    """Return a cache of this test only, with the box in it."""
    monkeypatch.setenv("SOCKETCALL_CACHE", str(tmp_path))
    (tmp_path / built.name).mkdir()
    for file in built.iterdir():
        (tmp_path / built.name / file.name).symlink_to(file)
    return tmp_path


def test_a_second_run_of_a_vm_is_refused(other_cache):
    state = other_cache / "vagrant" / KERNEL
    state.mkdir(parents=True)
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CannotBuild, match=f"another run uses this VM; .* holds {state / 'lock'}"):
            begin()


def test_a_full_disk_is_reported_before_the_boot(other_cache, monkeypatch):
    monkeypatch.setattr(vagrant, "MEGABYTES", 10**9)
    with pytest.raises(CannotBuild, match=rf"vagrant:{KERNEL}: needs 1000000000 MB in .*, \d+ MB are free; free some"):
        begin()


def test_a_damaged_box_is_reported(other_cache):
    package = next(other_cache.glob("box-*")) / "package.box"
    package.unlink()
    package.write_bytes(b"no archive")
    with pytest.raises(CannotBuild, match=r"vagrant up failed: .*; the box is damaged: delete its directory") as caught:
        begin()
    assert "\n" not in str(caught.value)
    assert not _processes(other_cache)


@pytest.fixture
def root(built, tmp_path):
    """Return the root that the disk of a box has."""
    path = tmp_path / "root"
    path.mkdir()
    debian.unpack(store.have(box.ROOT) / "root.tar", path)
    yield path
    # (pytest keeps the directories of three sessions.)
    shutil.rmtree(path)


def test_tox_works_in_the_root_of_a_box_without_a_network(root):
    """By the wheels and the settings that a guest has, as its user; in the guest the emulator takes many times as long."""
    copy = ["rsync", "-a", "--filter=:- .gitignore", "--exclude=.git", f"{checkout()}/", f"{root}{vagrant.CHECKOUT}/"]
    subprocess.run(copy, stdin=subprocess.DEVNULL, timeout=BOOT_DEADLINE, check=True)
    # (A worker of pytest-xdist would collect everything once more.)
    tox = "tox run -e py -- -q -n 0 tests/multiplexer/test_number.py -k out_of_range"
    script = f"cd {vagrant.CHECKOUT} && chown -R vagrant: . && exec runuser -u vagrant -- {tox}"
    # The network namespace is empty; pip's settings are those of the root.
    enter = ["bwrap", "--die-with-parent", "--unshare-net", "--bind", str(root), "/", "--dev", "/dev"]
    enter += ["--bind", "/proc", "/proc", "--perms", "1777", "--tmpfs", "/tmp", "--clearenv", *debian.CLEAN]
    enter += ["--setenv", "PIP_NO_COMPILE", "1", "setarch", "i686", "sh", "-c", script]
    done = subprocess.run(enter, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOOT_DEADLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"1 behaviour, \d+ checks: \d+ conforms", done.stdout)


@contextmanager
def once(begun, happens):
    """Call a function as soon as a condition is true."""
    done = threading.Event()

    def watch():
        wait_for(lambda: done.is_set() or begun(), "a check", BOOT_DEADLINE)
        if not done.is_set():
            happens()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="class")
def guest():
    """Start a guest for the tests of a class: a start takes longer than they do."""
    if os.geteuid() != 0 or not store.have(box.box(KERNEL)):
        pytest.skip("root, and its box")
    with vagrant.guest(KERNEL, quiet) as here:
        yield here


def attempt(command):
    """Run a command to its end, whatever that is."""
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_DEADLINE, check=False)


@pytest.fixture
def is_lost(tmp_path, spawn, guest):
    """Run a command while a test is judged in the guest, and require that what runs there is lost for a reason."""

    def require(command, reason):
        report = tmp_path / "report"
        args = parsed(["check", "multiplexer.number.*", "--report", str(report)])
        results = report.with_name("report.part") / "results.jsonl.gz"
        run = remote.RemoteRun(guest.machine(), args, Expectations())

        def is_in_a_test():
            """Return True if there is a check, and a part is in a test: between two tests nothing is lost."""
            return results.exists() and '"check"' in unpacked(results) and any(part.current for part in run._parts)

        quietly = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        with once(is_in_a_test, lambda: spawn(command, **quietly)):
            assert run.run() == 3
        checks = read(report).checks
        lost = [check for check in checks if check.verdict == "lost"]
        assert 1 <= len(lost) <= vagrant.CPUS
        assert all(re.search(reason, check.detail) for check in lost), lost
        assert {check.verdict for check in checks} == {"conforms", "lost", "not_run"}

    return require


class TestOneGuest:
    """Tests that one guest serves, in this order: what a test changes in it, a later one does not notice."""

    def test_the_kernel_is_read_from_the_cache(self, built, guest):
        command = guest.libvirt.command("virsh", "-c", "qemu:///system", "dumpxml", f"socketcall-{KERNEL}")
        xml = subprocess.run(command, capture_output=True, text=True, timeout=LOSS_DEADLINE, check=True).stdout
        assert re.findall("<(?:kernel|initrd)>(.*)</", xml) == [f"{built}/vmlinuz", f"{built}/initrd.img"]

    @pytest.mark.usefixtures("built")
    def test_xdist_judges_on_the_vm_and_here_at_once(self, tmp_path, guest):
        config = store.cache() / "vagrant" / KERNEL / "ssh_config"
        machine = f"ssh=-F {config} socketcall-{KERNEL}//python=sudo {vagrant.PYTHON}//chdir={vagrant.CHECKOUT}"
        words = [
            sys.executable,
            "-m",
            "probes.cli",
            "check",
            "multiplexer.number.out-of-range",
            "--report",
            str(tmp_path / "all"),
        ]
        words += ["--", "--dist", "each", "--tx", f"id=vm//{machine}", "--tx", "id=here//popen"]
        command = guest.libvirt.command("env", "-C", str(checkout()), *words)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOOT_DEADLINE)
        assert done.returncode == 0, done.stdout + done.stderr
        runs = {name: read(tmp_path / "all" / name) for name in ("vm", "here")}
        assert [runs[name].run["target"]["callers"][0]["word"] for name in ("vm", "here")] == [
            32,
            struct.calcsize("P") * 8,
        ]
        assert runs["vm"].run["reference"].startswith("i386 6.1.")
        assert all(run.counts["conforms"] > 0 for run in runs.values())

    @pytest.mark.usefixtures("built")
    def test_a_guest_that_hangs_is_lost(self, guest, is_lost, monkeypatch):
        """Its stream falls silent, as it does without a network, or without an emulator."""
        monkeypatch.setattr(vagrant, "SSH_TIMEOUT", 6)
        is_lost(
            guest.libvirt.command("pkill", "-STOP", "qemu-system"), "its stream broke off: Timeout, server .* not resp"
        )
        monkeypatch.undo()
        attempt(guest.libvirt.command("pkill", "-CONT", "qemu-system"))
        # Both parts of the lost run would go on in the guest.
        attempt(guest.command("pkill python3"))

    @pytest.mark.usefixtures("built")
    def test_a_guest_that_panics_is_lost_with_its_console(self, guest, is_lost):
        """No test can follow; the end of this guest finds no emulator."""
        is_lost(
            guest.command("echo c >/proc/sysrq-trigger"), "guest's kernel panicked; console: .*sysrq triggered crash"
        )
        attempt(guest.libvirt.command("pkill", "-KILL", "qemu-system"))


@pytest.mark.usefixtures("built")
def test_a_killed_run_leaves_nothing_that_runs_and_the_next_one_goes_on(tmp_path, spawn):
    report = tmp_path / "report"
    words = [sys.executable, "-m", "probes.cli", "target", "run", f"vagrant:{KERNEL}", "--"]
    words += ["multiplexer.number.out-of-range", "--report", str(report)]
    killed = spawn(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    state = store.cache() / "vagrant" / KERNEL
    try:
        started = wait_for(lambda: _with_emulator(killed), "its emulator", BOOT_DEADLINE)
    finally:
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
    assert not psutil.wait_procs(started, timeout=LOSS_DEADLINE)[1]
    again = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOOT_DEADLINE)
    assert again.returncode == 0, again.stderr
    assert not _processes(state)
    assert read(report).run["target"]["abi"] == "i386"


def _with_emulator(run):
    """Return the processes that a run has started, [] while no emulator is among them."""
    assert run.poll() is None, "it ended before that"
    started = psutil.Process(run.pid).children(recursive=True)
    with suppress(psutil.NoSuchProcess):
        if any(process.name().startswith("qemu-system") for process in started):
            return started
    return []


def _processes(cache):
    """Return the processes whose command line names a cache."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(cache) in line and int(entry.parent.name) != os.getpid():
            found.append(line)
    return found
