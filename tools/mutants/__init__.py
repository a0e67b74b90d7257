"""Wrong kernels, made one at a time by injection into traced calls, and the behaviours that find them."""
