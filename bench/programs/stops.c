/* Stops each of many calls through int $0x80 twice, at its entry and at its exit, and prints the seconds of all.
 *
 *     stops COUNT
 */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void child(unsigned count, int go)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 102, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    char byte;

    if (read(go, &byte, 1) != 1)
        _exit(1);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(1);
    for (unsigned i = 0; i < count; i++) {
        int result;
        __asm__ volatile("int $0x80" : "=a"(result) : "0"(102), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "memory");
        if (result != -22)
            _exit(1);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    unsigned count = argc == 2 ? atoi(argv[1]) : 0, entries = 0, stops = 0;
    struct timespec a, b;
    int go[2], status;

    if (!count || pipe(go))
        return 2;
    pid_t pid = fork();
    if (pid == 0)
        child(count, go[0]);
    if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP)) {
        perror("PTRACE_SEIZE");
        kill(pid, SIGKILL);
        return 1;
    }
    if (write(go[1], "g", 1) != 1)
        return 1;
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
        int entry = status >> 16 == PTRACE_EVENT_SECCOMP;
        if (!entries)
            clock_gettime(CLOCK_MONOTONIC, &a);
        entries += entry;
        stops++;
        if (ptrace(entry ? PTRACE_SYSCALL : PTRACE_CONT, pid, 0, 0))
            return 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    if (status || entries != count || stops != 2 * count)
        return 1;
    printf("%.9f\n", (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9);
    return 0;
}
