"""Assemble probes/entry/machine/*.s with GNU as: `python -m tools.generate_machine_code code` prints code.py."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

MACHINE = Path(__file__).resolve().parents[1] / "probes/entry/machine"
WORDS = (64, 32)
#: The modules of probes/entry/machine, with the word sizes of each source that they hold.
MODULES: dict[str, dict[str, tuple[int, ...]]] = {
    "code": dict.fromkeys(("stub", "loop", "child", "clone", "init"), WORDS),
    "agent_code": dict.fromkeys(("agent", "boot", "handler"), (32,)),
    "replay_code": {"replay": (32,)},
}


def assemble(source: str, word: int) -> tuple[bytes, int]:
    """Return the machine code of a source for a word size (32 or 64), and the offset of its label `gate` in bytes.

    Raises CalledProcessError if `as` rejects the source, ValueError if it has no label `gate`.
    """
    text = (MACHINE / f"{source}.s").read_text()
    if word == 64:
        text = ".set WORD64, 1\n" + text
    with tempfile.TemporaryDirectory() as directory:
        assembled, raw = Path(directory, "code.o"), Path(directory, "code.bin")
        subprocess.run(["as", f"--{word}", "-I", MACHINE, "-o", assembled, "-"], input=text, text=True, check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", assembled, raw], check=True)
        symbols = subprocess.run(["nm", assembled], capture_output=True, text=True, check=True).stdout
        gate = re.search(r"([0-9a-f]+) . gate\n", symbols)
        if gate is None:
            raise ValueError(f"{source}.s has no label gate; add it where the entry instruction goes")
        return raw.read_bytes(), int(gate[1], 16)


def main() -> None:
    """Print the module that the argument names."""
    print('"""Machine code made by tools/generate_machine_code.py: {word: (code, offset of the label gate)}."""\n')
    for source, words in MODULES[sys.argv[1]].items():
        print(f"{source.upper()}: dict[int, tuple[bytes, int]] = {{")
        for word in words:
            code, gate = assemble(source, word)
            print(f"    {word}: (\n        bytes.fromhex(")
            for start in range(0, len(code), 32):
                print(f'            "{code[start : start + 32].hex()}"')
            print(f"        ),\n        {gate},\n    ),")
        print("}")


if __name__ == "__main__":
    main()
