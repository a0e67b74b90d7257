"""Machine code that enters the kernel: assembly sources, their generator, and the bytes it made."""
