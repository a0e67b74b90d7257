"""Decode calls of the table CALLS from their words and memory: all 20 operations, and the other system calls.

The memory is made with struct here and the expected values are written by hand.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from probes.abi.operations import OPERATIONS, OTHER_CALLS
from tests.instruments.decoding import (
    DECODED,
    DECODED_PEER,
    LOCAL,
    PEER,
    A,
    B,
    C,
    D,
    E,
    F,
    buffer,
    decoded_call,
    i32,
    u32,
)

HEADER = u32(A, 16, B, 2, C, 16, 0)
MEMORY = {A: LOCAL, B: u32(D, 3, E, 4), C: i32(16, 1, 1, 7), D: b"abc", E: b"defg", F: HEADER}
IOV = [{"base": "0x4000", "len": 3, "data": buffer(b"abc", "abc")},
       {"base": "0x5000", "len": 4, "data": buffer(b"defg", "defg")}]  # fmt: skip
RIGHTS = [{"len": 16, "level": "SOL_SOCKET", "type": "SCM_RIGHTS", "data": [7]}]
SENT = {"name": DECODED, "namelen": 16, "iov": IOV, "iovlen": 2, "control": RIGHTS, "controllen": 16, "flags": 0}
#: Received: 5 of 7 bytes, a longer name than there was room for, flags written.
ROOM = {A: bytes(32), B: u32(D, 3, E, 4), C: bytes(64), D: bytes(3), E: bytes(4), F: u32(A, 16, B, 2, C, 64, 0)}
CAME = {  # with more behind the address than there was room for
    A: PEER + b"beyond room",
    C: i32(24, 1, 2, 10, 20, 30),
    D: b"abc",
    E: b"de\0\0",
    F: u32(A, 28, B, 2, C, 24, 0x20),
}
IOV_CAME = [{"base": "0x4000", "len": 3, "data": buffer(b"abc", "abc")},
            {"base": "0x5000", "len": 4, "data": buffer(b"de", "de")}]  # fmt: skip
RECEIVED = {
    "name": DECODED_PEER, "namelen": {"in": 16, "out": 28}, "iov": IOV_CAME, "iovlen": 2,
    "control": [{"len": 24, "level": "SOL_SOCKET", "type": "SCM_CREDENTIALS",
                 "data": {"pid": 10, "uid": 20, "gid": 30}}],
    "controllen": {"in": 64, "out": 24}, "flags": "MSG_TRUNC"}  # fmt: skip
SENT_TEXT = (
    "{name={AF_INET 127.0.0.1:80} namelen=16 "
    'iov=[{base=0x4000 len=3 data="abc"}, {base=0x5000 len=4 data="defg"}] iovlen=2 '
    "control=[{len=16 level=SOL_SOCKET type=SCM_RIGHTS data=[7]}] controllen=16 flags=0"
)

#: operation, words, memory at entry, result, memory written, the arguments decoded, the line.
CALLS: list[tuple[str, list[int], dict[int, bytes], int | None, dict[int, bytes], dict[str, Any], str]] = [
    ("socket", [2, 0x80001, 6], {}, 3, {},
     {"family": "AF_INET", "type": "SOCK_STREAM|SOCK_CLOEXEC", "protocol": "IPPROTO_TCP"},
     "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_TCP) = 3"),
    ("socket", [0xFFFFFFFF, 0, 0xFFFFFFFE], {}, -97, {},
     {"family": -1, "type": 0, "protocol": -2}, "socket(-1, 0, -2) = -97 EAFNOSUPPORT"),
    ("bind", [3, A, 16], {A: LOCAL}, -13, {}, {"fd": 3, "addr": DECODED, "addrlen": 16},
     "bind(3, {AF_INET 127.0.0.1:80}, 16) = -13 EACCES"),
    ("bind", [3, A, 0xFFFFFFFF], {A: LOCAL}, -22, {}, {"fd": 3, "addr": "0x1000", "addrlen": -1},
     "bind(3, 0x1000, -1) = -22 EINVAL"),
    ("connect", [0xFFFFFFFF, 0, 16], {}, -9, {}, {"fd": -1, "addr": "NULL", "addrlen": 16},
     "connect(-1, NULL, 16) = -9 EBADF"),
    ("connect", [3, A, 8], {A: b"\x01\0/s\"\0x"}, 0, {},
     {"fd": 3, "addr": {"family": "AF_UNIX", "path": '/s"', "leftover": 1}, "addrlen": 8},
     'connect(3, {AF_UNIX "/s\\"" leftover=1}, 8) = 0'),
    ("listen", [3, 0xFFFFFFFF], {}, 0, {}, {"fd": 3, "backlog": -1}, "listen(3, -1) = 0"),
    ("accept", [3, A, B], {B: i32(128)}, 4, {A: PEER, B: i32(16)},
     {"fd": 3, "addr": DECODED_PEER, "addrlen": {"in": 128, "out": 16}},
     "accept(3, {AF_INET 10.0.0.2:4660}, [128 => 16]) = 4"),
    ("accept", [3, A, B], {B: i32(128)}, -11, {}, {"fd": 3, "addr": "0x1000", "addrlen": {"in": 128}},
     "accept(3, 0x1000, [128]) = -11 EAGAIN"),
    ("accept", [3, 0, 0], {}, None, {}, {"fd": 3, "addr": "NULL", "addrlen": "NULL"}, "accept(3, NULL, NULL) = ?"),
    ("getsockname", [3, A, B], {B: i32(4)}, 0, {A: PEER, B: i32(16)},
     {"fd": 3, "addr": {"family": "AF_INET", "raw": "02001234", "missing": 12}, "addrlen": {"in": 4, "out": 16}},
     "getsockname(3, {AF_INET raw=02001234 missing=12}, [4 => 16]) = 0"),
    ("getsockname", [3, A, B], {B: i32(1)}, 0, {A: PEER, B: i32(16)},
     {"fd": 3, "addr": {"raw": "02", "missing": 1}, "addrlen": {"in": 1, "out": 16}},
     "getsockname(3, {raw=02 missing=1}, [1 => 16]) = 0"),
    ("getsockname", [3, 0, B], {B: i32(0)}, 0, {B: i32(16)}, {"fd": 3, "addr": "NULL", "addrlen": {"in": 0, "out": 16}},
     "getsockname(3, NULL, [0 => 16]) = 0"),
    ("getpeername", [3, A, B], {}, -14, {}, {"fd": 3, "addr": "0x1000", "addrlen": "0x2000"},
     "getpeername(3, 0x1000, 0x2000) = -14 EFAULT"),
    ("socketpair", [1, 2, 0, A], {A: bytes(8)}, 0, {A: i32(3, 4)},
     {"family": "AF_UNIX", "type": "SOCK_DGRAM", "protocol": 0, "sv": [3, 4]},
     "socketpair(AF_UNIX, SOCK_DGRAM, 0, [3, 4]) = 0"),
    ("send", [3, A, 4, 0x4000], {A: b"hi\n\0rest"}, 4, {},
     {"fd": 3, "buf": buffer(b"hi\n\0", "hi\\n\\x00"), "len": 4, "flags": "MSG_NOSIGNAL"},
     'send(3, "hi\\n\\x00", 4, MSG_NOSIGNAL) = 4'),
    ("send", [3, A, 100, 0], {A: b"x" * 100}, 100, {},
     {"fd": 3, "buf": buffer(b"x" * 64, "x" * 64, more=36), "len": 100, "flags": 0},
     f'send(3, "{"x" * 64}"..., 100, 0) = 100'),
    ("recv", [3, A, 10, 0x40], {A: b"old old ol"}, 3, {A: b"new"},
     {"fd": 3, "buf": buffer(b"new", "new"), "len": 10, "flags": "MSG_DONTWAIT"},
     'recv(3, "new", 10, MSG_DONTWAIT) = 3'),
    ("recv", [3, A, 2, 0x20], {A: b"old"}, 9, {A: b"neW"},
     {"fd": 3, "buf": buffer(b"ne", "ne"), "len": 2, "flags": "MSG_TRUNC"}, 'recv(3, "ne", 2, MSG_TRUNC) = 9'),
    ("recv", [3, A, 2, 0], {A: b"old"}, 0, {}, {"fd": 3, "buf": "0x1000", "len": 2, "flags": 0},
     "recv(3, 0x1000, 2, 0) = 0"),
    ("sendto", [3, A, 3, 0, B, 16], {A: b"abc", B: LOCAL}, 3, {},
     {"fd": 3, "buf": buffer(b"abc", "abc"), "len": 3, "flags": 0, "addr": DECODED, "addrlen": 16},
     'sendto(3, "abc", 3, 0, {AF_INET 127.0.0.1:80}, 16) = 3'),
    ("recvfrom", [3, A, 9, 2, B, C], {C: i32(16)}, 3, {A: b"abc", B: PEER, C: i32(16)},
     {"fd": 3, "buf": buffer(b"abc", "abc"), "len": 9, "flags": "MSG_PEEK", "addr": DECODED_PEER,
      "addrlen": {"in": 16, "out": 16}},
     'recvfrom(3, "abc", 9, MSG_PEEK, {AF_INET 10.0.0.2:4660}, [16 => 16]) = 3'),
    ("recvfrom", [3, A, 9, 0, B, C], {C: i32(0)}, 3, {A: b"abc", B: PEER, C: i32(16)},
     {"fd": 3, "buf": buffer(b"abc", "abc"), "len": 9, "flags": 0, "addr": "0x2000", "addrlen": {"in": 0, "out": 16}},
     'recvfrom(3, "abc", 9, 0, 0x2000, [0 => 16]) = 3'),
    ("shutdown", [3, 1], {}, 0, {}, {"fd": 3, "how": "SHUT_WR"}, "shutdown(3, SHUT_WR) = 0"),
    ("setsockopt", [3, 1, 2, A, 4], {A: i32(1)}, 0, {},
     {"fd": 3, "level": "SOL_SOCKET", "optname": "SO_REUSEADDR", "optval": 1, "optlen": 4},
     "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, 1, 4) = 0"),
    ("setsockopt", [3, 1, 13, A, 8], {A: i32(1, -5)}, 0, {},
     {"fd": 3, "level": "SOL_SOCKET", "optname": "SO_LINGER", "optval": {"onoff": 1, "linger": -5}, "optlen": 8},
     "setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1 linger=-5}, 8) = 0"),
    ("setsockopt", [3, 0, 35, A, 12], {A: b"\xe0\0\0\1\x7f\0\0\1" + i32(2)}, 0, {},
     {"fd": 3, "level": "IPPROTO_IP", "optname": "IP_ADD_MEMBERSHIP",
      "optval": {"multiaddr": "224.0.0.1", "interface": "127.0.0.1", "ifindex": 2}, "optlen": 12},
     "setsockopt(3, IPPROTO_IP, IP_ADD_MEMBERSHIP, {multiaddr=224.0.0.1 interface=127.0.0.1 ifindex=2}, 12) = 0"),
    ("setsockopt", [3, 41, 20, A, 20], {A: b"\xff\x02" + bytes(13) + b"\1" + i32(7)}, 0, {},
     {"fd": 3, "level": "IPPROTO_IPV6", "optname": "IPV6_ADD_MEMBERSHIP",
      "optval": {"address": "ff02::1", "ifindex": 7}, "optlen": 20},
     "setsockopt(3, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, {address=ff02::1 ifindex=7}, 20) = 0"),
    ("setsockopt", [3, 1, 25, A, 3], {A: b"lo\0"}, 0, {},
     {"fd": 3, "level": "SOL_SOCKET", "optname": "SO_BINDTODEVICE", "optval": buffer(b"lo\0", "lo\\x00"), "optlen": 3},
     'setsockopt(3, SOL_SOCKET, SO_BINDTODEVICE, "lo\\x00", 3) = 0'),
    ("setsockopt", [3, 0, 33, A, 1], {A: b"\xff"}, 0, {},
     {"fd": 3, "level": "IPPROTO_IP", "optname": "IP_MULTICAST_TTL", "optval": 255, "optlen": 1},
     "setsockopt(3, IPPROTO_IP, IP_MULTICAST_TTL, 255, 1) = 0"),
    ("setsockopt", [3, 6, 1, A, 0xFFFFFFFF], {A: i32(1)}, -22, {},
     {"fd": 3, "level": "IPPROTO_TCP", "optname": "TCP_NODELAY", "optval": "0x1000", "optlen": -1},
     "setsockopt(3, IPPROTO_TCP, TCP_NODELAY, 0x1000, -1) = -22 EINVAL"),
    ("getsockopt", [3, 1, 20, A, B], {B: i32(16)}, 0, {A: i32(5, 250000), B: i32(8)},
     {"fd": 3, "level": "SOL_SOCKET", "optname": "SO_RCVTIMEO_OLD", "optval": {"sec": 5, "usec": 250000},
      "optlen": {"in": 16, "out": 8}},
     "getsockopt(3, SOL_SOCKET, SO_RCVTIMEO_OLD, {sec=5 usec=250000}, [16 => 8]) = 0"),
    ("getsockopt", [3, 6, 32, A, B], {B: i32(104)}, 0, {A: b"\1" * 104, B: i32(104)},
     {"fd": 3, "level": "IPPROTO_TCP", "optname": "TCP_MD5SIG_EXT", "optval": buffer(b"\1" * 64, "\\x01" * 64, more=40),
      "optlen": {"in": 104, "out": 104}},
     'getsockopt(3, IPPROTO_TCP, TCP_MD5SIG_EXT, "' + "\\x01" * 64 + '"..., [104 => 104]) = 0'),
    ("getsockopt", [3, 1, 4, A, 0], {}, -14, {},
     {"fd": 3, "level": "SOL_SOCKET", "optname": "SO_ERROR", "optval": "0x1000", "optlen": "NULL"},
     "getsockopt(3, SOL_SOCKET, SO_ERROR, 0x1000, NULL) = -14 EFAULT"),
    ("sendmsg", [3, F, 0x8000], MEMORY, 7, {}, {"fd": 3, "msg": SENT, "flags": "MSG_MORE"},
     f"sendmsg(3, {SENT_TEXT}}}, MSG_MORE) = 7"),
    ("sendmsg", [3, F, 0], {F: HEADER}, -14, {},
     {"fd": 3, "msg": {"name": "0x1000", "namelen": 16, "iov": "0x2000", "iovlen": 2, "control": "0x3000",
                       "controllen": 16, "flags": 0}, "flags": 0},
     "sendmsg(3, {name=0x1000 namelen=16 iov=0x2000 iovlen=2 control=0x3000 controllen=16 flags=0}, 0) = -14 EFAULT"),
    ("sendmsg", [3, F, 0], {F: HEADER[:27]}, -14, {}, {"fd": 3, "msg": "0x6000", "flags": 0},
     "sendmsg(3, 0x6000, 0) = -14 EFAULT"),
    ("recvmsg", [3, F, 0], ROOM, 5, CAME, {"fd": 3, "msg": RECEIVED, "flags": 0},
     'recvmsg(3, {name={AF_INET 10.0.0.2:4660} namelen=[16 => 28] '
     'iov=[{base=0x4000 len=3 data="abc"}, {base=0x5000 len=4 data="de"}] iovlen=2 '
     "control=[{len=24 level=SOL_SOCKET type=SCM_CREDENTIALS data={pid=10 uid=20 gid=30}}] "
     "controllen=[64 => 24] flags=MSG_TRUNC}, 0) = 5"),
    ("recvmsg", [3, F, 0], ROOM, -11, CAME,
     {"fd": 3, "msg": {"name": "0x1000", "namelen": 16, "iov": [{"base": "0x4000", "len": 3},
                                                               {"base": "0x5000", "len": 4}],
                       "iovlen": 2, "control": "0x3000", "controllen": 64, "flags": 0}, "flags": 0},
     "recvmsg(3, {name=0x1000 namelen=16 iov=[{base=0x4000 len=3}, {base=0x5000 len=4}] iovlen=2 "
     "control=0x3000 controllen=64 flags=0}, 0) = -11 EAGAIN"),
    ("recvmsg", [3, F, 0], {F: u32(A, 0, B, 2, 0, 0, 0), B: u32(C, 70, D, 70)}, 139,
     {F: u32(A, 16, B, 2, 0, 0, 0), A: PEER, C: b"x" * 70, D: b"y" * 70},
     {"fd": 3, "msg": {"name": "0x1000", "namelen": {"in": 0, "out": 16}, "iov": [
         {"base": "0x3000", "len": 70, "data": buffer(b"x" * 64, "x" * 64, more=6)},
         {"base": "0x4000", "len": 70, "data": buffer(b"y" * 64, "y" * 64, more=5)}], "iovlen": 2,
         "control": "NULL", "controllen": {"in": 0, "out": 0}, "flags": 0}, "flags": 0},
     "recvmsg(3, {name=0x1000 namelen=[0 => 16] "
     f'iov=[{{base=0x3000 len=70 data="{"x" * 64}"...}}, {{base=0x4000 len=70 data="{"y" * 64}"...}}] iovlen=2 '
     "control=NULL controllen=[0 => 0] flags=0}, 0) = 139"),
    ("accept4", [3, 0, 0, 0x80800], {}, 4, {},
     {"fd": 3, "addr": "NULL", "addrlen": "NULL", "flags": "SOCK_CLOEXEC|SOCK_NONBLOCK"},
     "accept4(3, NULL, NULL, SOCK_CLOEXEC|SOCK_NONBLOCK) = 4"),
    ("recvmmsg", [3, 0x7000, 2, 0x10000, 0x8000],
     {**ROOM, 0x7000: u32(A, 16, B, 2, C, 64, 0, 0xEEEE) + u32(0, 0, 0, 0, 0, 0, 0, 0xEEEE), 0x8000: i32(1, 500)}, 1,
     {**CAME, 0x7000: u32(A, 28, B, 2, C, 24, 0x20, 5) + u32(0, 0, 0, 0, 0, 0, 0, 0xEEEE), 0x8000: i32(0, 400)},
     {"fd": 3, "msgvec": [{**RECEIVED, "len": 5},
                          {"name": "NULL", "namelen": 0, "iov": "NULL", "iovlen": 0, "control": "NULL",
                           "controllen": 0, "flags": 0}],
      "vlen": 2, "flags": "MSG_WAITFORONE", "timeout": {"in": {"sec": 1, "nsec": 500}, "out": {"sec": 0, "nsec": 400}}},
     'recvmmsg(3, [{name={AF_INET 10.0.0.2:4660} namelen=[16 => 28] '
     'iov=[{base=0x4000 len=3 data="abc"}, {base=0x5000 len=4 data="de"}] iovlen=2 '
     "control=[{len=24 level=SOL_SOCKET type=SCM_CREDENTIALS data={pid=10 uid=20 gid=30}}] "
     "controllen=[64 => 24] flags=MSG_TRUNC len=5}, "
     "{name=NULL namelen=0 iov=NULL iovlen=0 control=NULL controllen=0 flags=0}], 2, MSG_WAITFORONE, "
     "[{sec=1 nsec=500} => {sec=0 nsec=400}]) = 1"),
    ("sendmmsg", [3, 0x7000, 2, 0], {**MEMORY, 0x7000: (HEADER + u32(0xEEEE)) * 2}, 1,
     {0x7000: HEADER + u32(7) + HEADER + u32(0xEEEE)},
     {"fd": 3, "msgvec": [{**SENT, "len": 7}, SENT], "vlen": 2, "flags": 0},
     f"sendmmsg(3, [{SENT_TEXT} len=7}}, {SENT_TEXT}}}], 2, 0) = 1"),
    # Other system calls.
    ("close", [3], {}, 0, {}, {"fd": 3}, "close(3) = 0"),
    ("getpid", [], {}, 77, {}, {}, "getpid() = 77"),
    ("restart_syscall", [], {}, -514, {}, {}, "restart_syscall() = -514 ERESTARTNOHAND"),
    ("read", [3, A, 8], {A: b"old"}, 2, {A: b"ab"}, {"fd": 3, "buf": buffer(b"ab", "ab"), "count": 8},
     'read(3, "ab", 8) = 2'),
    ("write", [3, A, 2], {A: b"abc"}, 2, {}, {"fd": 3, "buf": buffer(b"ab", "ab"), "count": 2},
     'write(3, "ab", 2) = 2'),
    ("dup", [3], {}, 4, {}, {"oldfd": 3}, "dup(3) = 4"),
    ("dup2", [3, 9], {}, 9, {}, {"oldfd": 3, "newfd": 9}, "dup2(3, 9) = 9"),
    ("dup3", [3, 9, 0x80000], {}, 9, {}, {"oldfd": 3, "newfd": 9, "flags": "O_CLOEXEC"}, "dup3(3, 9, O_CLOEXEC) = 9"),
    ("fcntl64", [3, 4, 0x802], {}, 0, {}, {"fd": 3, "cmd": "F_SETFL", "arg": "O_RDWR|O_NONBLOCK"},
     "fcntl64(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0"),
    ("fcntl64", [3, 2, 1], {}, 0, {}, {"fd": 3, "cmd": "F_SETFD", "arg": "FD_CLOEXEC"},
     "fcntl64(3, F_SETFD, FD_CLOEXEC) = 0"),
    ("fcntl64", [3, 8, 0xFFFFFFFF], {}, 0, {}, {"fd": 3, "cmd": "F_SETOWN", "arg": -1}, "fcntl64(3, F_SETOWN, -1) = 0"),
    ("fcntl64", [3, 15, A], {A: i32(1, 77)}, 0, {}, {"fd": 3, "cmd": "F_SETOWN_EX", "arg": {"type": 1, "pid": 77}},
     "fcntl64(3, F_SETOWN_EX, {type=1 pid=77}) = 0"),
    ("fcntl", [3, 16, A], {A: bytes(8)}, 0, {A: i32(2, 5)},
     {"fd": 3, "cmd": "F_GETOWN_EX", "arg": {"type": 2, "pid": 5}}, "fcntl(3, F_GETOWN_EX, {type=2 pid=5}) = 0"),
    ("fcntl", [3, 15, A], {A: i32(1, 77)}, 0, {}, {"fd": 3, "cmd": "F_SETOWN_EX", "arg": {"type": 1, "pid": 77}},
     "fcntl(3, F_SETOWN_EX, {type=1 pid=77}) = 0"),
    ("fcntl64", [3, 16, A], {A: bytes(8)}, 0, {A: i32(2, 5)},
     {"fd": 3, "cmd": "F_GETOWN_EX", "arg": {"type": 2, "pid": 5}}, "fcntl64(3, F_GETOWN_EX, {type=2 pid=5}) = 0"),
    ("fcntl64", [3, 13, A], {A: bytes(24)}, 0, {}, {"fd": 3, "cmd": "F_SETLK64", "arg": "0x1000"},
     "fcntl64(3, F_SETLK64, 0x1000) = 0"),
    ("ioctl", [3, 0x541B, A], {A: i32(-1)}, 0, {A: i32(12)}, {"fd": 3, "request": "FIONREAD", "argp": 12},
     "ioctl(3, FIONREAD, 12) = 0"),
    ("ioctl", [3, 0x5421, A], {A: i32(1)}, 0, {}, {"fd": 3, "request": "FIONBIO", "argp": 1},
     "ioctl(3, FIONBIO, 1) = 0"),
    ("ioctl", [3, 0x8913, A], {A: b"lo" + bytes(30)}, 0, {A: b"lo" + bytes(14) + b"\x49" + bytes(15)},
     {"fd": 3, "request": "SIOCGIFFLAGS", "argp": {"name": "lo", "data": "49" + "00" * 15}},
     f"ioctl(3, SIOCGIFFLAGS, {{name=lo data=49{'00' * 15}}}) = 0"),
    ("ioctl", [3, 0x8906, A], {A: bytes(8)}, 0, {A: i32(5, 6)},
     {"fd": 3, "request": "SIOCGSTAMP_OLD", "argp": buffer(i32(5, 6), "\\x05\\x00\\x00\\x00\\x06\\x00\\x00\\x00")},
     'ioctl(3, SIOCGSTAMP_OLD, "\\x05\\x00\\x00\\x00\\x06\\x00\\x00\\x00") = 0'),
    ("ioctl", [3, 0xDEADBEEF, A], {A: bytes(64)}, -25, {}, {"fd": 3, "request": "0xdeadbeef", "argp": "0x1000"},
     "ioctl(3, 0xdeadbeef, 0x1000) = -25 ENOTTY"),
    ("poll", [A, 2, 0xFFFFFFFF], {A: struct.pack("<iHHiHH", 3, 1, 0, -1, 0x2005, 0)}, 1,
     {A: struct.pack("<iHHiHH", 3, 1, 0x11, -1, 0x2005, 0)},
     {"fds": [{"fd": 3, "events": "POLLIN", "revents": "POLLIN|POLLHUP"},
              {"fd": -1, "events": "POLLIN|POLLOUT|POLLRDHUP", "revents": 0}], "nfds": 2, "timeout": -1},
     "poll([{fd=3 events=POLLIN revents=POLLIN|POLLHUP}, {fd=-1 events=POLLIN|POLLOUT|POLLRDHUP revents=0}], "
     "2, -1) = 1"),
    ("ppoll", [A, 1, B, 0, 8], {A: struct.pack("<iHH", 3, 4, 0), B: i32(2, 0)}, 0, {},
     {"fds": [{"fd": 3, "events": "POLLOUT", "revents": 0}], "nfds": 1, "timeout": {"sec": 2, "nsec": 0},
      "sigmask": "NULL", "sigsetsize": 8},
     "ppoll([{fd=3 events=POLLOUT revents=0}], 1, {sec=2 nsec=0}, NULL, 8) = 0"),
    ("_newselect", [40, A, 0, 0, B], {A: u32(0b1000001000, 0x80), B: i32(1, 0)}, 1, {A: u32(8, 0), B: i32(0, 900)},
     {"nfds": 40, "readfds": {"in": [3, 9, 39], "out": [3]}, "writefds": "NULL", "exceptfds": "NULL",
      "timeout": {"in": {"sec": 1, "usec": 0}, "out": {"sec": 0, "usec": 900}}},
     "_newselect(40, [[3, 9, 39] => [3]], NULL, NULL, [{sec=1 usec=0} => {sec=0 usec=900}]) = 1"),
    ("pselect6", [1, 0, A, 0, 0, B], {A: u32(1), B: bytes(8)}, 0, {A: u32(0)},
     {"nfds": 1, "readfds": "NULL", "writefds": {"in": [0], "out": []}, "exceptfds": "NULL", "timeout": "NULL",
      "sigmask": "0x2000"},
     "pselect6(1, NULL, [[0] => []], NULL, NULL, 0x2000) = 0"),
    ("readv", [3, B, 2], {B: u32(D, 3, E, 4), D: bytes(3), E: bytes(4)}, 5, {D: b"abc", E: b"de\0\0"},
     {"fd": 3, "iov": IOV_CAME, "iovcnt": 2},
     'readv(3, [{base=0x4000 len=3 data="abc"}, {base=0x5000 len=4 data="de"}], 2) = 5'),
    ("writev", [3, B, 2], {B: u32(D, 3, E, 4), D: b"abc", E: b"defg"}, 7, {}, {"fd": 3, "iov": IOV, "iovcnt": 2},
     'writev(3, [{base=0x4000 len=3 data="abc"}, {base=0x5000 len=4 data="defg"}], 2) = 7'),
    ("sendfile", [3, 4, A, 7], {A: i32(2)}, 7, {A: i32(9)},
     {"out_fd": 3, "in_fd": 4, "offset": {"in": 2, "out": 9}, "count": 7}, "sendfile(3, 4, [2 => 9], 7) = 7"),
    ("sendfile64", [3, 4, A, 7], {A: struct.pack("<q", 1 << 32)}, -22, {},
     {"out_fd": 3, "in_fd": 4, "offset": {"in": 1 << 32}, "count": 7},
     "sendfile64(3, 4, [4294967296], 7) = -22 EINVAL"),
    ("recvmmsg_time64", [3, 0, 0, 0, 0x8000], {0x8000: struct.pack("<qq", 1 << 32, 5)}, 0,
     {0x8000: struct.pack("<qq", 1, 4)},
     {"fd": 3, "msgvec": "NULL", "vlen": 0, "flags": 0,
      "timeout": {"in": {"sec": 1 << 32, "nsec": 5}, "out": {"sec": 1, "nsec": 4}}},
     "recvmmsg_time64(3, NULL, 0, 0, [{sec=4294967296 nsec=5} => {sec=1 nsec=4}]) = 0"),
    ("select", [A], {A: bytes(20)}, 0, {}, {"args": "0x1000"}, "select(0x1000) = 0"),
    ("pselect6_time64", [1, A, 0, 0, 0x8000, 0], {A: u32(1), 0x8000: struct.pack("<qq", 3, 4)}, 1,
     {A: u32(1), 0x8000: struct.pack("<qq", 2, 9)},
     {"nfds": 1, "readfds": {"in": [0], "out": [0]}, "writefds": "NULL", "exceptfds": "NULL",
      "timeout": {"in": {"sec": 3, "nsec": 4}, "out": {"sec": 2, "nsec": 9}}, "sigmask": "NULL"},
     "pselect6_time64(1, [[0] => [0]], NULL, NULL, [{sec=3 nsec=4} => {sec=2 nsec=9}], NULL) = 1"),
    ("ppoll_time64", [A, 1, 0x8000, 0, 8], {A: struct.pack("<iHH", 3, 4, 0), 0x8000: struct.pack("<qq", 3, 4)}, 0, {},
     {"fds": [{"fd": 3, "events": "POLLOUT", "revents": 0}], "nfds": 1, "timeout": {"sec": 3, "nsec": 4},
      "sigmask": "NULL", "sigsetsize": 8},
     "ppoll_time64([{fd=3 events=POLLOUT revents=0}], 1, {sec=3 nsec=4}, NULL, 8) = 0"),
    ("epoll_create1", [0o2000000], {}, 3, {}, {"flags": "O_CLOEXEC"}, "epoll_create1(O_CLOEXEC) = 3"),
    ("epoll_ctl", [3, 1, 4, A], {A: struct.pack("<IQ", 0x80002001, 1 << 40)}, 0, {},
     {"epfd": 3, "op": "EPOLL_CTL_ADD", "fd": 4, "event": {"events": "EPOLLIN|EPOLLRDHUP|EPOLLET", "data": 1 << 40}},
     "epoll_ctl(3, EPOLL_CTL_ADD, 4, {events=EPOLLIN|EPOLLRDHUP|EPOLLET data=1099511627776}) = 0"),
    ("epoll_wait", [3, A, 2, 0], {A: bytes(24)}, 1, {A: struct.pack("<IQIQ", 0x11, 7, 0, 0)},
     {"epfd": 3, "events": [{"events": "EPOLLIN|EPOLLHUP", "data": 7}], "maxevents": 2, "timeout": 0},
     "epoll_wait(3, [{events=EPOLLIN|EPOLLHUP data=7}], 2, 0) = 1"),
    ("epoll_pwait", [3, A, 2, 0xFFFFFFFF, 0, 8], {A: bytes(24)}, -4, {},
     {"epfd": 3, "events": "0x1000", "maxevents": 2, "timeout": -1, "sigmask": "NULL", "sigsetsize": 8},
     "epoll_pwait(3, 0x1000, 2, -1, NULL, 8) = -4 EINTR"),
    ("epoll_pwait2", [3, A, 2, 0x8000, B, 8], {A: bytes(24), 0x8000: struct.pack("<qq", 3, 4)}, 0, {},
     {"epfd": 3, "events": "0x1000", "maxevents": 2, "timeout": {"sec": 3, "nsec": 4}, "sigmask": "0x2000",
      "sigsetsize": 8},
     "epoll_pwait2(3, 0x1000, 2, {sec=3 nsec=4}, 0x2000, 8) = 0"),
    ("fstat64", [3, A], {A: bytes(96)}, 0, {}, {"fd": 3, "statbuf": "0x1000"}, "fstat64(3, 0x1000) = 0"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "words", "before", "ret", "after", "decoded", "line"), CALLS)
def test_call(
    op: str, words: list[int], before: dict[int, bytes], ret: int | None, after: dict[int, bytes],
    decoded: dict[str, Any], line: str,
) -> None:  # fmt: skip
    got, got_line = decoded_call(op, words, before, ret, after)
    assert got == decoded
    assert list(got) == list(decoded)
    assert got_line == line


def test_every_system_call_is_in_the_table() -> None:
    assert {op for op, *_ in CALLS} == {*OPERATIONS, *OTHER_CALLS}
