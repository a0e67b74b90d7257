"""Tests of names: what getsockname, getpeername and accept write of them, and which length they report."""
