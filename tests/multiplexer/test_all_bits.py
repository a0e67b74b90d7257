"""Tests that an operation reads all 32 bits of its words: a truncated word would name another object."""

from errno import EAFNOSUPPORT, EBADF, EINVAL, EPROTONOSUPPORT

from probes.abi.operations import BY_CALL
from probes.testing import behaviour

#: What a word fails with if a bit of its upper half is set, by its name in the manual page.
ERRORS = {"fd": EBADF, "family": EAFNOSUPPORT, "protocol": EPROTONOSUPPORT, "addrlen": EINVAL}
#: The length of the address of the samples, a struct sockaddr_in.
ADDRLEN = 16
#: The operations whose addrlen is a length, not a pointer to one.
WITH_LENGTH = ("bind", "connect", "sendto")
#: socket and socketpair of AF_UNIX, SOCK_STREAM, protocol 0.
UNIX = (1, 1, 0)


@behaviour(
    "multiplexer.words.all-bits",
    "socket(2) EAFNOSUPPORT, EPROTONOSUPPORT; bind(2) EBADF, EINVAL; __sock_create, unix_create, sockfd_lookup, "
    "move_addr_to_kernel: int family, int protocol, int fd, int ulen",
)
def test_all_bits(calls, samples, expect):
    """An operation reads all 32 bits of a word: a descriptor, family, protocol or address length with bit 16 or 31 set
    is another value, and fails with EBADF, EAFNOSUPPORT, EPROTONOSUPPORT or EINVAL.
    """
    for call, sample in samples.items():
        operation = BY_CALL[call]
        words = sample.values
        if operation.name in ("socket", "socketpair"):
            words = (*UNIX, *words[3:])
        for index, argument in enumerate(operation.arguments):
            error = ERRORS.get(argument.name)
            if error is None or (argument.name == "addrlen" and operation.name not in WITH_LENGTH):
                continue
            # Alone, the lower half of a length has to be one that the operation takes.
            lower = ADDRLEN if argument.name == "addrlen" else words[index]
            check = expect([-error, -error], operation=operation.name, word=argument.name)
            results = []
            for bit in (16, 31):
                changed = (*words[:index], lower | 1 << bit, *words[index + 1 :])
                results.append(calls.make(operation.name, *changed))
            check.of(results, *results)
