"""The one ptrace loop: what a process sends over the system-call boundary, seen from outside."""
