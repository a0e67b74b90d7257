"""Scripts: the calls of a behaviour with what its test expects of them, as a C program or a program that needs no Python."""
