"""Targets whose kernel runs the agent alone, as process 1 of an initramfs: Debian's kernels in QEMU, and user-mode Linux.

    kernel-NAME: vmlinux modules/0-NAME.ko …   →   bare-NAME: vmlinux initrd

QEMU emulates the CPU (TCG), so it needs no /dev/kvm and gives the same machine everywhere. The kernel's console is the
first serial port, and ends in what a lost test says; the agent's line is a port of a virtio console, a hundred times faster
than a second serial port. Its modules are in the initramfs.
"""

from __future__ import annotations

import inspect
import lzma
import os
import re
import shlex
import shutil
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from probes.entry.initramfs import initramfs
from probes.errors import CommandError
from probes.targets import debian, store
from probes.targets.box import KERNELS, Kernel
from probes.targets.store import CannotBuild, Progress, Recipe
from probes.targets.target import CheckArguments, Target, run_check

#: Modules of the line, in the order in which they depend on each other; a kernel that lacks one has it in another.
_LINE = ("virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_console")
#: Self-tests of the kernel's ciphers take half of the boot; no machine here has an ISA bus to probe, which i386 kernels do.
#: Mitigations cost time under emulation, and depend on the CPU: VERW before SYSEXIT sets ZF in 5.10.223 (registers.flags).
_ARGUMENTS = "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests noisapnp -- /dev/vport0p1"
_MEMORY = 256
#: The header of a bzImage (Documentation/arch/x86/boot.rst): sectors of set-up code, offset and size of what is compressed.
_SECTORS, _PAYLOAD, _SECTOR = 0x1F1, 0x248, 512
#: The note XEN_ELFNOTE_PHYS32_ENTRY (include/xen/interface/elfnote.h) with an address of 4 or 8 bytes.
_PVH = re.compile(rb"\x04\0{3}[\x04\x08]\0{3}\x12\0{3}Xen\0")
#: User-mode Linux of Debian, and what it is linked with.
_UML = Kernel("bookworm", "i386", "user-mode-linux")
_UML_MODULES = ("crc-ccitt", "ipv6")


@dataclass(frozen=True)
class BareTarget(Target):
    """Boots a kernel, and judges what it answers the agent by `check --boot`. `command` is that of a built artefact."""

    command: Callable[[Path], list[str]] = lambda _: []

    def run(self, args: CheckArguments, progress: Progress) -> int:
        """Checks on the kernel, and returns the exit status. Raises CommandError: it cannot be built or started."""
        if args.command != "check":
            raise CommandError(f"target run {self.name}: only `check` runs there")
        given = args.parsed
        if any(value is not None for value in (given.via, given.via_tty, given.boot, given.implementation)):
            raise CommandError(
                f"target run {self.name}: --boot, --via, --via-tty and --implementation are the target's; leave them out"
            )
        assert self.recipe is not None
        boot = shlex.join(self.command(store.make(self.recipe, progress)))
        command = [sys.executable, "-m", "probes.cli", "check", *args.words, "--boot", boot]
        command += ["--implementation", self.implementation]
        return run_check(command, lambda pid: pid, os.environ | self.environment())


def _qemu(kernel: Kernel) -> Callable[[Path], list[str]]:
    program = "qemu-system-x86_64" if kernel.architecture == "amd64" else "qemu-system-i386"

    def command(artefact: Path) -> list[str]:
        return [
            store.tool(program), "-accel", "tcg", "-m", str(_MEMORY), "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-kernel", str(artefact / "vmlinux"), "-initrd", str(artefact / "initrd"), "-append", _ARGUMENTS,
            "-chardev", "file,id=console,path=/dev/stderr,append=on", "-serial", "chardev:console",
            "-chardev", "stdio,id=agent,signal=off", "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=agent,name=agent",
        ]  # fmt: skip

    return command


def _uml(artefact: Path) -> list[str]:
    root = artefact / "root"
    # Its processes outlive the first one: they end with their pid namespace.
    return [
        store.tool("bwrap"), "--die-with-parent", "--unshare-net", "--unshare-pid",
        "--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/dev/shm",
        "/usr/bin/linux.uml", "mem=128M", "initrd=/initrd", "con=null", "con0=null,fd:2", "con1=fd:0,fd:1", "quiet",
        "panic=-1", "--", "/dev/tty1",
    ]  # fmt: skip


def _unpack_kernel(kernel: Kernel) -> Callable[[Path, Progress], None]:
    def build(into: Path, progress: Progress) -> None:
        progress("fetching the kernel")
        package = into / "package"
        debian.packages(package, kernel.architecture, kernel.package, (kernel.suite,))
        (image,) = (package / "boot").glob("vmlinuz-*")
        (into / "vmlinux").write_bytes(bootable(image.read_bytes()))
        _keep_modules(package / "lib/modules", _LINE, into / "modules")
        shutil.rmtree(package)

    return build


def bootable(image: bytes) -> bytes:
    """Returns the kernel that QEMU starts soonest. Raises CannotBuild.

    That is the ELF file in a bzImage, if it has a note for that (CONFIG_PVH, which a kernel without PAE lacks): a compressed
    kernel decompresses itself, under emulation.
    """
    kernel = decompressed(image)
    return kernel if _PVH.search(kernel) else image


def decompressed(image: bytes) -> bytes:
    """Returns the ELF file in a bzImage that is compressed by xz, as Debian's are. Raises CannotBuild."""
    offset, size = struct.unpack_from("<2I", image, _PAYLOAD)
    start = ((image[_SECTORS] or 4) + 1) * _SECTOR + offset
    try:
        # After the compressed kernel comes its size.
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(image[start : start + size])
    except lzma.LZMAError as error:
        raise CannotBuild(f"the kernel cannot be decompressed: {error}; its packaging has changed") from error


def _keep_modules(directory: Path, names: tuple[str, ...], into: Path) -> None:
    into.mkdir()
    found = {path.stem: path for path in directory.rglob("*.ko")}
    for number, name in enumerate(name for name in names if name in found):
        shutil.move(found[name], into / f"{number}-{name}.ko")


def _write_initrd(kernel: Recipe, into: Path) -> None:
    base = store.have(kernel)
    assert base is not None
    modules = [path.read_bytes() for path in sorted((base / "modules").iterdir())]
    for path in base.iterdir():
        if path.name != "modules":
            # A hard link: both are in the cache, and neither is written to again.
            store.run(["cp", "-al", str(path), str(into)], 60)
    root = into / "root"
    (root if root.is_dir() else into).joinpath("initrd").write_bytes(initramfs(modules))


def _unpack_uml(into: Path, progress: Progress) -> None:
    progress("fetching user-mode Linux")
    root, package = into / "root", into / "package"
    debian.packages(package, _UML.architecture, _UML.package, (_UML.suite,))
    debian.packages(root, _UML.architecture, "libc6", (_UML.suite,))
    for directory in ("dev", "proc", "tmp", "usr/bin"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    shutil.move(package / "usr/bin/linux.uml", root / "usr/bin")
    _keep_modules(package / "usr/lib/uml/modules", _UML_MODULES, into / "modules")
    shutil.rmtree(package)


def _recipes(name: str, what: str, build: Callable[[Path, Progress], None], *inputs: str) -> tuple[Recipe, Recipe]:
    """Returns the recipes of a kernel as it is fetched, and with the initramfs."""
    code = (inspect.getsource(step) for step in (debian.packages, bootable, decompressed, _keep_modules))
    kernel = Recipe(f"kernel-{name}", f"{what}, and its modules for a line", build, (*inputs, *code), megabytes=500)

    def with_initrd(into: Path, progress: Progress) -> None:
        _write_initrd(kernel, into)

    made = (initramfs().hex(), inspect.getsource(_write_initrd))
    return kernel, Recipe(
        f"bare-{name}", f"{what}, with the agent as process 1", with_initrd, made, (kernel,), megabytes=100
    )


_OF_KERNELS = {
    name: _recipes(
        name, f"the kernel {name} of Debian {kernel.suite}", _unpack_kernel(kernel), *kernel.__dict__.values(), *_LINE
    )
    for name, kernel in KERNELS.items()
}
_OF_UML = _recipes("uml", "user-mode Linux of Debian bookworm", _unpack_uml, *_UML.__dict__.values(), *_UML_MODULES)

RECIPES = tuple(recipe for recipes in (*_OF_KERNELS.values(), _OF_UML) for recipe in recipes)
"""The artefacts of this module."""

TARGETS = {
    target.name: target
    for target in (
        *(
            BareTarget(
                f"bare:{name}",
                f"the kernel {name} with the agent alone",
                recipe,
                command=_qemu(KERNELS[name]),
            )
            for name, (_, recipe) in _OF_KERNELS.items()
        ),
        BareTarget("uml", "user-mode Linux of Debian bookworm with the agent alone", _OF_UML[1], "linux-um", _uml),
    )
}
"""The targets of this module by name."""
