"""Builds the boxes of the i386 VM: a disk with a Debian 12 i386 root and what the suite needs, and a kernel.

    vm-root  →  box-KERNEL: box.img vmlinuz initrd.img, and package.box for `vagrant box add`

A guest has all that it needs on this disk: it installs nothing from a network.
"""

from __future__ import annotations

import inspect
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from probes.installation import suite
from probes.targets import debian, store
from probes.targets.i386 import PACKAGES, REQUIREMENTS, SUITE
from probes.targets.store import CannotBuild, Progress, Recipe, tool

WHEELHOUSE = "/opt/wheelhouse"
#: Packages beside those of the suite: for a system that boots, runs sshd, and can make an initramfs.
SYSTEM = (
    "systemd", "systemd-sysv", "udev", "dbus", "kmod", "openssh-server", "sudo", "rsync",
    "ca-certificates", "initramfs-tools", "lz4",
)  # fmt: skip
#: Wheels beside REQUIREMENTS, for `tox` in a guest without a network.
WHEELS = ("tox", "tap.py", "junitparser", "hatchling>=1.27", "editables", "pip")
#: Units that only cost time in a VM that is used for one run.
MASKED = (
    "systemd-networkd-wait-online.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
    "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty@tty1.service", "serial-getty@ttyS0.service",
    "systemd-journald-audit.socket",
)  # fmt: skip
#: Kernel modules that no socket needs, nine tenths of their size.
LEFT_OUT = (
    "kernel/sound",
    "kernel/drivers/gpu",
    "kernel/drivers/media",
    "kernel/drivers/staging",
    "kernel/drivers/iio",
)
DISK = "4G"


@dataclass(frozen=True)
class Kernel:
    """Names a kernel of Debian: the newest package of a suite whose name matches."""

    suite: str
    architecture: str
    package: str


KERNELS = {
    "6.1-686-pae": Kernel("bookworm", "i386", r"linux-image-6\.1\.0-\d+-686-pae"),
    "6.1-686": Kernel("bookworm", "i386", r"linux-image-6\.1\.0-\d+-686"),
    "6.5-686-pae": Kernel("bookworm-backports", "i386", r"linux-image-6\.5\.0-0\.deb12\.\d+-686-pae"),
    "5.10-686-pae": Kernel("bullseye", "i386", r"linux-image-5\.10\.0-\d+-686-pae"),
    # For comparison: the compat entry of an x86-64 kernel of the same version, with the same root.
    "6.1-amd64": Kernel("bookworm", "amd64", r"linux-image-6\.1\.0-\d+-amd64"),
}
DEFAULT = "6.1-686-pae"


def _overlay() -> Path:
    return suite() / "vagrant" / "guest"


def _box_files() -> Path:
    return suite() / "vagrant" / "box"


def _contents(directory: Path) -> tuple[str, ...]:
    """Returns the files of a directory as inputs of a recipe."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return tuple(f"{path.relative_to(directory)}\0{path.read_text()}" for path in files)


def key(name: str) -> Path:
    """Returns the path of Vagrant's well-known key, `vagrant` or the public `vagrant.pub`. Raises CannotBuild."""
    for directory in ("/usr/share/vagrant", "/usr/share/rubygems-integration/all/gems", "/opt/vagrant"):
        if found := sorted(Path(directory).rglob(f"keys/{name}")):
            return found[0]
    raise CannotBuild(f"vagrant's key {name} is missing on this machine; install Debian's package vagrant")


def _need_root(what: str) -> None:
    if os.geteuid() != 0:
        raise CannotBuild(f"{what}: its files belong to several users; build it as root")


def _build_root(into: Path, progress: Progress) -> None:
    _need_root("vm-root")
    public = key("vagrant.pub").read_text()
    progress("vm-root: installing Debian's packages, about a minute")
    archive = debian.bootstrap(into, (*PACKAGES, *SYSTEM))
    root = into / "root"
    root.mkdir()
    debian.unpack(archive, root)
    archive.unlink()
    progress("vm-root: fetching and installing Python packages")
    pip = ["python3", "-m", "pip"]
    enter = debian.enter(root)
    download = [*pip, "download", "-q", "--only-binary", ":all:", "--dest", WHEELHOUSE]
    store.run([*enter, *download, *REQUIREMENTS, *WHEELS], debian.FETCH_DEADLINE)
    install = ["-m", "pip", "install", "-q", "--no-index", "--find-links", WHEELHOUSE, "--no-cache-dir"]
    store.run([*enter, "python3", "-m", "venv", SUITE], debian.FETCH_DEADLINE)
    store.run([*enter, f"{SUITE}/bin/python3", *install, *REQUIREMENTS, "tox"], debian.FETCH_DEADLINE)
    (root / "usr/local/bin/tox").symlink_to(f"{SUITE}/bin/tox")
    _configure(root, public)
    store.run(["tar", "-cf", str(archive), "-C", str(root), "."], debian.FETCH_DEADLINE)
    shutil.rmtree(root)


def _configure(root: Path, public: str) -> None:
    """Adds the guest's users, and the settings in vagrant/guest, to Debian's root."""
    store.run(["cp", "-r", "--no-preserve=ownership", f"{_overlay()}/.", str(root)], 60)
    (root / "etc/sudoers.d/vagrant").chmod(0o440)
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    chroot = ["chroot", str(root)]
    store.run([*chroot, "systemctl", "enable", "systemd-networkd", "ssh"], 60)
    store.run([*chroot, "useradd", "--create-home", "--shell", "/bin/bash", "vagrant"], 60)
    ssh = root / "home/vagrant/.ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "authorized_keys").write_text(public)
    store.run([*chroot, "chown", "-R", "vagrant:vagrant", "/home/vagrant/.ssh"], 60)


ROOT = Recipe(
    name="vm-root",
    what="a bootable Debian 12 i386 root with what the suite needs, as root.tar",
    build=_build_root,
    inputs=(
        *debian.SUITES,
        *PACKAGES,
        *SYSTEM,
        SUITE,
        *REQUIREMENTS,
        *WHEELS,
        *MASKED,
        *_contents(_overlay()),
        *(inspect.getsource(step) for step in (_configure, debian.bootstrap, debian.unpack)),
    ),
    megabytes=3000,
)


def _build_box(into: Path, progress: Progress, name: str) -> None:
    _need_root(f"box-{name}")
    base = store.have(ROOT)
    assert base is not None
    kernel = KERNELS[name]
    unpacked, root = into / "kernel", into / "root"
    root.mkdir()
    progress(f"box-{name}: fetching the kernel")
    debian.packages(unpacked, kernel.architecture, kernel.package, (kernel.suite,))
    debian.unpack(base / "root.tar", root)
    (modules,) = (unpacked / "lib/modules").iterdir()
    for part in LEFT_OUT:
        shutil.rmtree(modules / part, ignore_errors=True)
    (root / "usr/lib/modules").mkdir(exist_ok=True)
    shutil.move(modules, root / "usr/lib/modules")
    # mkinitramfs reads there which compression the kernel supports.
    shutil.move(unpacked / f"boot/config-{modules.name}", root / "boot")
    shutil.move(unpacked / f"boot/vmlinuz-{modules.name}", into / "vmlinuz")
    shutil.rmtree(unpacked)
    progress(f"box-{name}: making the disk")
    enter = debian.enter(root)
    store.run([*enter, "depmod", modules.name], 120)
    store.run([*enter, "mkinitramfs", "-o", "/boot/initrd.img", modules.name], 300)
    shutil.move(root / "boot/initrd.img", into / "initrd.img")
    raw = into / "disk.raw"
    store.run([tool("mke2fs"), "-q", "-t", "ext4", "-E", "lazy_itable_init=0", "-d", str(root), str(raw), DISK], 300)
    shutil.rmtree(root)
    store.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(into / "box.img")], 300)
    raw.unlink()
    for file in ("metadata.json", "Vagrantfile"):
        shutil.copy(_box_files() / file, into)
    parts = ["metadata.json", "Vagrantfile", "box.img", "vmlinuz", "initrd.img"]
    store.run(["tar", "-cf", str(into / "package.box"), "-C", str(into), *parts], 300)


def box(name: str) -> Recipe:
    """Returns the recipe of the box with one of KERNELS."""
    kernel = KERNELS[name]

    def build(into: Path, progress: Progress) -> None:
        _build_box(into, progress, name)

    return Recipe(
        name=f"box-{name}",
        what=f"the i386 VM with {kernel.suite}'s {name}",
        build=build,
        inputs=(
            kernel.suite,
            kernel.architecture,
            kernel.package,
            *LEFT_OUT,
            DISK,
            *_contents(_box_files()),
            *(inspect.getsource(step) for step in (_build_box, debian.packages)),
        ),
        needs=(ROOT,),
        megabytes=4000,
    )
