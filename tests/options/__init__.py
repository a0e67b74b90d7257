"""Tests of socket options: what setsockopt takes and getsockopt returns."""
