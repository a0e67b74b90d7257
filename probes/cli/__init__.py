"""The commands of `socketcall`."""
