"""Tests of the calls that wait until descriptors are ready."""
