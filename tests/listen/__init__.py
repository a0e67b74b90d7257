"""Tests of listening sockets: listen(2), accept(2), accept4(2)."""
