"""A pathname of AF_UNIX that resolves to a file name longer than NAME_MAX."""

import socket
from errno import ENAMETOOLONG
from pathlib import Path

import pytest

from probes.abi import sockaddr
from probes.testing import behaviour

NAME_MAX = 255


@behaviour("bind.unix.name-too-long", "bind(2) ENAMETOOLONG; path_resolution(7); link_path_walk, ext4 and tmpfs lookup")
@pytest.mark.usefixtures("shared_files")
def test_name_too_long(new_socket, expect):
    """bind to a path that a symbolic link resolves to a file name of more than 255 bytes fails with ENAMETOOLONG."""
    Path("link").symlink_to("n" * (NAME_MAX + 1))
    expect(-ENAMETOOLONG).of(new_socket(socket.AF_UNIX, socket.SOCK_STREAM).bind(sockaddr.unix("link/s")))
