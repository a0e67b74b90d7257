"""The directory of a report: what is not a report stays as it is."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from probes.errors import CommandError
from probes.report.directory import MARKER, ReportDirectory

NAMES = ("report", "report.old", "report.part")


def a_file(path: Path) -> None:
    path.write_text("the user's")


def a_directory_of_files(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("the user's")


def a_link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to("elsewhere")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("no-such-thing")


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_directory_with_a_forged_marker(path: Path) -> None:
    path.mkdir()
    (path / MARKER).symlink_to("/etc/hostname")


OBSTACLES = (a_file, a_directory_of_files, a_link, a_dangling_link, a_fifo, a_directory_with_a_forged_marker)


def picture(directory: Path) -> dict[str, object]:
    """Returns what lies below a directory: modes, sizes, targets of links."""
    return {
        str(path.relative_to(directory)): (path.lstat().st_mode, path.lstat().st_ino, path.is_symlink() and path.readlink())
        for path in directory.rglob("*")
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_no_report_stays(obstacle, name, tmp_path):
    """Each thing that is not ours, at each of the three names, is refused, and nothing is touched."""
    obstacle(tmp_path / name)
    before = picture(tmp_path)
    with pytest.raises(CommandError, match=f"{name} "):
        ReportDirectory(tmp_path / "report")
    assert picture(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="root makes devices")
def test_a_device_stays(tmp_path):
    """`--report /dev/null` as root once made a directory of the machine's /dev/null."""
    os.mknod(tmp_path / "null", 0o020666, os.makedev(1, 3))
    with pytest.raises(CommandError, match="is not a directory"):
        ReportDirectory(tmp_path / "null")
    assert (tmp_path / "null").is_char_device()


def test_reports_follow_each_other(tmp_path):
    """An empty directory is taken; a report becomes NAME.old, and the one before that goes."""
    place = tmp_path / "report"
    place.mkdir()
    for number in range(3):
        made = ReportDirectory(place)
        (made.part / "number").write_text(str(number))
        made.keep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "report.old"]
    assert ((place / "number").read_text(), (tmp_path / "report.old" / "number").read_text()) == ("2", "1")


def test_a_discarded_report_leaves_nothing(tmp_path):
    """A run that never began leaves the directory as it was."""
    ReportDirectory(tmp_path / "report").discard()
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_process_that_is_gone_is_removed(tmp_path):
    """A killed run's .part is ours to remove; that of a running one is not."""
    part = ReportDirectory(tmp_path / "report").part
    with pytest.raises(CommandError, match=f"being written by process {os.getpid()}"):
        ReportDirectory(tmp_path / "report")
    marker = json.loads((part / MARKER).read_text())
    gone = subprocess.Popen(["true"])
    gone.wait()
    for stale in ({"pid": gone.pid}, {"started": "1"}):
        (part / MARKER).write_text(json.dumps(marker | stale))
        (part / "old-file").write_text("")
        assert not (ReportDirectory(tmp_path / "report").part / "old-file").exists()


def test_the_command_refuses_before_the_run(tmp_path, socketcall):
    """`check --report X` with X a directory of the user's: one line, status 2, no test runs."""
    a_directory_of_files(tmp_path / "mine")
    before = picture(tmp_path / "mine")
    done = socketcall("check", "bind.rebind.bound", "--report", "mine")
    assert done.status == 2
    assert "holds files that are no report" in done.err + done.out
    assert picture(tmp_path / "mine") == before


def test_a_directory_without_a_name_is_refused(socketcall):
    done = socketcall("check", "bind.rebind.bound", "--report", "")
    assert (done.status, done.err) == (2, "socketcall: --report names no directory: give --report DIR\n")
