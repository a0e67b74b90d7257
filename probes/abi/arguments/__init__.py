"""Defines the arguments of system calls by subject: how each is decoded, and which memory behind it is fetched."""
