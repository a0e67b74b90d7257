"""Tests of socket(2) and socketpair(2)."""
