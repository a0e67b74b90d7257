"""Tests of socket."""
