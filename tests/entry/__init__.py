"""Tests of the entry into the kernel: numbers, registers, errors, pointers, capabilities, signals."""
