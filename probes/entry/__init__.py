"""Make system calls: gates into the kernel, routes of the operations, the memory they point to, the sweep loop."""
