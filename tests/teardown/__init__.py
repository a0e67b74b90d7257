"""Tests of close(2) and of what it releases."""
