# The program of init, the first process of a sandbox's pid namespace: a whole static ELF file.
#
# Init ends, and with it every process of the namespace, when the process that made the sandbox ends or kills it: standard
# input is a pipe whose write end only that process holds, so a read returns at its end, whenever that was. PDEATHSIG is for
# a write end that a copy of that process holds, too. The label gate is the entry point.
.intel_syntax noprefix
.set SIGCHLD, 17
.set SIGKILL, 9
.set PR_SET_PDEATHSIG, 1
.set PR_SET_NAME, 15
.set EINTR, 4
.set LAST, 1023                 # the last descriptor to close where the kernel has no close_range
.ifdef WORD64
.set BASE, 0x400000
header:
    .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0
    .zero 8
    .short 2, 62                # ET_EXEC, EM_X86_64
    .long 1
    .quad BASE+gate-header, segment-header, 0
    .long 0
    .short 64, 56, 1, 64, 0, 0
segment:
    .long 1, 5                  # PT_LOAD, readable and executable
    .quad 0, BASE, BASE, end-header, end-header, 0x1000
gate:
    mov eax, 112                # setsid
    syscall
    mov eax, 157                # prctl
    mov edi, PR_SET_PDEATHSIG
    mov esi, SIGKILL
    syscall
    mov eax, 157
    mov edi, PR_SET_NAME
    lea rsi, [rip+name]
    syscall
    push 0                      # rt_sigaction(SIGCHLD, SIG_IGN): the kernel reaps orphans of the namespace
    push 0
    push 0
    push 1
    mov eax, 13
    mov edi, SIGCHLD
    mov rsi, rsp
    xor edx, edx
    mov r10d, 8
    syscall
    mov eax, 436                # close_range(1, all, 0)
    mov edi, 1
    mov esi, -1
    syscall
    test rax, rax
    jz wait
    mov ebx, LAST
close:
    mov eax, 3
    mov edi, ebx
    syscall
    dec ebx
    jnz close
wait:
    xor eax, eax                # read(0, stack, 1)
    xor edi, edi
    mov rsi, rsp
    mov edx, 1
    syscall
    cmp rax, -EINTR
    je wait
    mov eax, 60                 # exit
    xor edi, edi
    syscall
.else
.set BASE, 0x8048000
header:
    .byte 0x7f, 'E', 'L', 'F', 1, 1, 1, 0
    .zero 8
    .short 2, 3                 # ET_EXEC, EM_386
    .long 1, BASE+gate-header, segment-header, 0, 0
    .short 52, 32, 1, 40, 0, 0
segment:
    .long 1, 0, BASE, BASE, end-header, end-header, 5, 0x1000       # PT_LOAD, readable and executable
gate:
    mov eax, 66                 # setsid
    int 0x80
    mov eax, 172                # prctl
    mov ebx, PR_SET_PDEATHSIG
    mov ecx, SIGKILL
    int 0x80
    mov eax, 172
    mov ebx, PR_SET_NAME
    mov ecx, BASE+name-header
    int 0x80
    push 0                      # rt_sigaction(SIGCHLD, SIG_IGN): the kernel reaps orphans of the namespace
    push 0
    push 0
    push 0
    push 1
    mov eax, 174
    mov ebx, SIGCHLD
    mov ecx, esp
    xor edx, edx
    mov esi, 8
    int 0x80
    mov eax, 436                # close_range(1, all, 0)
    mov ebx, 1
    mov ecx, -1
    xor edx, edx
    int 0x80
    test eax, eax
    jz wait
    mov ebx, LAST
close:
    mov eax, 6
    int 0x80
    dec ebx
    jnz close
wait:
    mov eax, 3                  # read(0, stack, 1)
    xor ebx, ebx
    mov ecx, esp
    mov edx, 1
    int 0x80
    cmp eax, -EINTR
    je wait
    mov eax, 1                  # exit
    xor ebx, ebx
    int 0x80
.endif
name:
    .asciz "socketcall-init"
end:
