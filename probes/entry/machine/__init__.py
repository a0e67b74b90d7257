"""Machine code that enters the kernel: the sources for GNU as, and the bytes made of them."""
