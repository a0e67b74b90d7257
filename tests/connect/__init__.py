"""Tests of connect(2)."""
