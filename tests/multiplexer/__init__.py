"""Tests of multiplexer."""
