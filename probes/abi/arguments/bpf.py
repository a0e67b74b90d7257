"""Decodes the instructions of a socket filter, struct sock_filter, as the macros of linux/filter.h write them.

Source: include/uapi/linux/bpf_common.h, filter.h; Documentation/networking/filter.rst.
"""

from __future__ import annotations

import struct

INSTRUCTION = struct.Struct("<HBBI")
_CLASSES = ("BPF_LD", "BPF_LDX", "BPF_ST", "BPF_STX", "BPF_ALU", "BPF_JMP", "BPF_RET", "BPF_MISC")
_LOADS, _ALU, _JUMP, _RETURN, _MISC = (0, 1), 4, 5, 6, 7
_SIZES = {0x00: "BPF_W", 0x08: "BPF_H", 0x10: "BPF_B"}
_MODES = {0x00: "BPF_IMM", 0x20: "BPF_ABS", 0x40: "BPF_IND", 0x60: "BPF_MEM", 0x80: "BPF_LEN", 0xA0: "BPF_MSH"}
_OPERATIONS = ("ADD", "SUB", "MUL", "DIV", "OR", "AND", "LSH", "RSH", "NEG", "MOD", "XOR")
_JUMPS = ("JA", "JEQ", "JGT", "JGE", "JSET")
_RETURNS = {0x00: "BPF_K", 0x08: "BPF_X", 0x10: "BPF_A"}
_MOVES = {0x00: "BPF_TAX", 0x80: "BPF_TXA"}
#: Offsets above this load what is no part of the packet, by name.
_ANCILLARY = 0xFFFFF000
_NAMES = (
    "PROTOCOL", "PKTTYPE", "IFINDEX", "NLATTR", "NLATTR_NEST", "MARK", "QUEUE", "HATYPE", "RXHASH", "CPU", "ALU_XOR_X",
    "VLAN_TAG", "VLAN_TAG_PRESENT", "PAY_OFFSET", "RANDOM", "VLAN_TPID",
)  # fmt: skip


def instructions(raw: bytes) -> list[str]:
    """Decode whole instructions: `BPF_STMT(BPF_RET|BPF_K, 0xffff)`."""
    whole = len(raw) // INSTRUCTION.size * INSTRUCTION.size
    return [_instruction(*each) for each in INSTRUCTION.iter_unpack(raw[:whole])]


def _instruction(code: int, true: int, false: int, k: int) -> str:
    text = "|".join(_code(code))
    operand = _operand(code, k)
    return (
        f"BPF_JUMP({text}, {operand}, {_hex(true)}, {_hex(false)})" if true or false else f"BPF_STMT({text}, {operand})"
    )


def _code(code: int) -> list[str]:
    kind, rest = code & 7, code & ~7
    parts = [_CLASSES[kind]]
    if kind in _LOADS:
        size, mode = rest & 0x18, rest & 0xE0
        parts += [_SIZES.get(size, hex(size)), _MODES.get(mode, hex(mode))]
        rest &= ~0xF8
    elif kind in (_ALU, _JUMP):
        names = _OPERATIONS if kind == _ALU else _JUMPS
        number = (rest & 0xF0) >> 4
        parts += ["BPF_X" if rest & 8 else "BPF_K", f"BPF_{names[number]}" if number < len(names) else hex(rest & 0xF0)]
        rest &= ~0xF8
    elif kind in (_RETURN, _MISC):
        table, mask = (_RETURNS, 0x18) if kind == _RETURN else (_MOVES, 0xF8)
        parts.append(table.get(rest & mask, hex(rest & mask)))
        rest &= ~mask
    return [*parts, hex(rest)] if rest else parts


def _operand(code: int, k: int) -> str:
    index = (k - _ANCILLARY) // 4
    if code & 7 in _LOADS and code & 0xE0 == 0x20 and k >= _ANCILLARY and k % 4 == 0 and index < len(_NAMES):
        return f"SKF_AD_OFF+SKF_AD_{_NAMES[index]}"
    return _hex(k)


def _hex(value: int) -> str:
    return hex(value) if value else "0"
