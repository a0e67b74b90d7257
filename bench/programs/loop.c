/* Makes calls through int $0x80 in a loop, and prints the seconds of all.
 *
 *     loop COUNT
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
    unsigned count = argc == 2 ? atoi(argv[1]) : 0;
    struct timespec a, b;
    long long sum = 0;

    clock_gettime(CLOCK_MONOTONIC, &a);
    for (unsigned i = 0; i < count; i++) {
        int result;
        __asm__ volatile("int $0x80" : "=a"(result) : "0"(102), "b"(21 + i), "c"(0), "d"(0), "S"(0), "D"(0) : "memory");
        sum += result;
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.9f\n", (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9);
    return sum != -22LL * count;
}
