"""Probes of the i386 Linux socket system-call ABI: calls made for real, captured, judged."""

VERSION = "0.1.0"
