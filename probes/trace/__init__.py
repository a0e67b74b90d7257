"""Trace processes by ptrace(2): record each call at its entry and at its exit."""
