"""Assembles the sources beside it with GNU as: `python -m tools.generate_machine_code` prints code.py."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

MACHINE = Path(__file__).resolve().parents[1] / "probes/entry/machine"
SOURCES = ("stub", "loop", "clone")
WORDS = (64, 32)


def assemble(source: str, word: int) -> tuple[bytes, int]:
    """(machine code, offset of its label gate) of a source for a word size. CalledProcessError if `as` refuses it."""
    text = (MACHINE / f"{source}.s").read_text()
    if word == 64:
        text = ".set WORD64, 1\n" + text
    with tempfile.TemporaryDirectory() as folder:
        made, raw = Path(folder, "made.o"), Path(folder, "made.bin")
        subprocess.run(["as", f"--{word}", "-o", made, "-"], input=text, text=True, check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", made, raw], check=True)
        symbols = subprocess.run(["nm", made], capture_output=True, text=True, check=True).stdout
        gate = re.search(r"([0-9a-f]+) . gate\n", symbols)
        if gate is None:
            raise ValueError(f"{source}.s has no gate label")
        return raw.read_bytes(), int(gate[1], 16)


def main() -> None:
    """Prints code.py."""
    print('"""Machine code, made by tools/generate_machine_code.py: {word: (code, offset of the label gate)}."""\n')
    for source in SOURCES:
        print(f"{source.upper()}: dict[int, tuple[bytes, int]] = {{")
        for word in WORDS:
            code, gate = assemble(source, word)
            print(f"    {word}: (\n        bytes.fromhex(")
            for start in range(0, len(code), 32):
                print(f'            "{code[start : start + 32].hex()}"')
            print(f"        ),\n        {gate},\n    ),")
        print("}")


if __name__ == "__main__":
    main()
