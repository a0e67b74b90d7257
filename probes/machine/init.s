# The first process of a sandbox's pid namespace: shares our memory, so it costs no fork; waits until its parent dies.
#
#   int init(flags, stack_top)      the new process's id, or a negative errno
#
# It cannot be the test itself: the kernel shields the first process of a namespace from signals.
.intel_syntax noprefix
.set PR_SET_PDEATHSIG, 1
.set SIGKILL, 9
.ifdef WORD64
    mov eax, 56                 # clone(flags, stack, 0, 0, 0)
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    syscall
    test eax, eax
    jz child
    ret
child:
    mov eax, 157                # prctl
    mov edi, PR_SET_PDEATHSIG
    mov esi, SIGKILL
    syscall
gate:
    mov eax, 34                 # pause
    syscall
    jmp gate
.else
    push ebx
    push esi
    push edi
    mov eax, 120                # clone(flags, stack, 0, 0, 0)
    mov ebx, [esp+16]
    mov ecx, [esp+20]
    xor edx, edx
    xor esi, esi
    xor edi, edi
    int 0x80
    test eax, eax
    jz child
    pop edi
    pop esi
    pop ebx
    ret
child:
    mov eax, 172                # prctl
    mov ebx, PR_SET_PDEATHSIG
    mov ecx, SIGKILL
    int 0x80
gate:
    mov eax, 29                 # pause
    int 0x80
    jmp gate
.endif
