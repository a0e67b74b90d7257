# Creates the process of a sandbox: clone(2) and unshare(2) for the price of one fork.
#
#   long clone(frame *)         returns the helper's id or a negative errno in the caller, 0 in the child
#
#   frame, in words: 0 saves the stack pointer      1 namespaces to leave, as flags of unshare(2)
#                    2 top of the helper's stack    3 descriptor of init's program, negative: no init
#                    4 child's tid address, or 0    5 out: negative errno
#                    6 out: init's id               7 out: the child's id
#                    8 PyOS_BeforeFork              9 PyOS_AfterFork_Child             10 PyOS_AfterFork_Parent
#                   11 init's standard input       12 init's argv                    13 the caller's id
#
# The hooks of the interpreter run here, as in os.fork, and not in Python: between two Python instructions another thread
# may take the interpreter's lock, and in the child, which lacks that thread, nothing would ever release it.
#
# The helper shares the caller's memory, as after vfork(2). It leaves the namespaces and clones two siblings (CLONE_PARENT,
# so both are children of the caller): init, the first process of the pid namespace, for which the helper waits (CLONE_VFORK)
# until it has executed init.s, because the sandbox must not reach the caller's memory through it; and the child, a copy of
# the caller that returns from here as from fork(2). To execute costs less than to copy the caller twice. The child is not
# the first process of its pid namespace, because the kernel drops signals without a handler for that one. The label gate
# is where init starts.
#
# An emulator may return from clone(2) with the wrong value, or make a copy of the process instead of sharing its memory.
# Each process is known by its id, not by that value: only the caller returns as the caller, with ENOSYS if it got 0. A
# helper that failed exits with the errno, for a caller that does not share its memory.
.intel_syntax noprefix
.set VM, 0x100
.set VFORK, 0x4000
.set PARENT, 0x8000
.set CHILD_TID, 0x1200000       # CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, as in the C library's fork
.set SIGCHLD, 17
.set AT_EMPTY_PATH, 0x1000
.set ENOSYS, 38
.set NOT_STARTED, 70
.ifdef WORD64
.set W, 8
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov rbx, rdi
    sub rsp, 8                  # aligns the stack for calls
    call [rbx+8*W]
    mov [rbx], rsp
    mov eax, 56                 # clone(flags, stack, 0, 0, 0)
    mov edi, VM|VFORK|SIGCHLD
    mov rsi, [rbx+2*W]
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    syscall
    test rax, rax
    jz helper
    mov r12, rax
    mov eax, 39                 # getpid
    syscall
    cmp rax, [rbx+13*W]
    je caller
    mov edi, NOT_STARTED
    jmp leave
refused:
    mov rsp, [rbx]
    mov r12, -ENOSYS
caller:
    call [rbx+10*W]
    mov rax, r12
return:
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
helper:
    mov eax, 39
    syscall
    cmp rax, [rbx+13*W]
    je refused
    mov eax, 272                # unshare
    mov rdi, [rbx+W]
    syscall
    test rax, rax
    js failed
    cmp qword ptr [rbx+3*W], 0
    jl fork
    mov eax, 56
    mov edi, VM|VFORK|PARENT|SIGCHLD
    xor esi, esi                # init needs no stack of its own while the helper waits
    syscall
    test rax, rax
    jz gate
    js failed
    mov [rbx+6*W], rax
    cmp qword ptr [rbx+5*W], 0  # the errno of init, which shares this memory
    jne exit
fork:
    mov eax, 56
    mov edi, PARENT|SIGCHLD
    mov r10, [rbx+4*W]
    test r10, r10
    jz clone
    or edi, CHILD_TID
clone:
    xor esi, esi
    syscall
    test rax, rax
    jz child
    js failed
    mov [rbx+7*W], rax
    jmp exit
failed:
    mov [rbx+5*W], rax
    mov edi, eax
    neg edi
    jmp leave
exit:
    xor edi, edi
leave:
    mov eax, 60                 # exit
    syscall
child:
    mov rsp, [rbx]
    call [rbx+9*W]
    xor eax, eax
    jmp return
gate:
    mov eax, 33                 # dup2
    mov rdi, [rbx+11*W]
    xor esi, esi
    syscall
    test rax, rax
    js failed
    mov eax, 322                # execveat(descriptor, "", argv, no environment, AT_EMPTY_PATH)
    mov rdi, [rbx+3*W]
    mov rdx, [rbx+12*W]
    lea rsi, [rdx+W]            # argv ends with a null pointer: its bytes are an empty string, too
    xor r10d, r10d
    mov r8d, AT_EMPTY_PATH
    syscall
    jmp failed
.else
.set W, 4
    push ebx
    push ebp
    push esi
    push edi
    mov ebp, [esp+20]
    sub esp, 12                 # aligns the stack for calls
    call [ebp+8*W]
    mov [ebp], esp
    mov eax, 120                # clone(flags, stack, 0, 0, 0)
    mov ebx, VM|VFORK|SIGCHLD
    mov ecx, [ebp+2*W]
    xor edx, edx
    xor esi, esi
    xor edi, edi
    int 0x80
    test eax, eax
    jz helper
    mov esi, eax
    mov eax, 20                 # getpid
    int 0x80
    cmp eax, [ebp+13*W]
    je caller
    mov ebx, NOT_STARTED
    jmp leave
refused:
    mov esp, [ebp]
    mov esi, -ENOSYS
caller:
    call [ebp+10*W]
    mov eax, esi
return:
    add esp, 12
    pop edi
    pop esi
    pop ebp
    pop ebx
    ret
helper:
    mov eax, 20
    int 0x80
    cmp eax, [ebp+13*W]
    je refused
    mov eax, 310                # unshare
    mov ebx, [ebp+W]
    int 0x80
    test eax, eax
    js failed
    cmp dword ptr [ebp+3*W], 0
    jl fork
    mov eax, 120
    mov ebx, VM|VFORK|PARENT|SIGCHLD
    xor ecx, ecx                # init needs no stack of its own while the helper waits
    int 0x80
    test eax, eax
    jz gate
    js failed
    mov [ebp+6*W], eax
    cmp dword ptr [ebp+5*W], 0  # the errno of init, which shares this memory
    jne exit
fork:
    mov eax, 120
    mov ebx, PARENT|SIGCHLD
    mov edi, [ebp+4*W]
    test edi, edi
    jz clone
    or ebx, CHILD_TID
clone:
    xor ecx, ecx
    int 0x80
    test eax, eax
    jz child
    js failed
    mov [ebp+7*W], eax
    jmp exit
failed:
    mov [ebp+5*W], eax
    mov ebx, eax
    neg ebx
    jmp leave
exit:
    xor ebx, ebx
leave:
    mov eax, 1                  # exit
    int 0x80
child:
    mov esp, [ebp]
    call [ebp+9*W]
    xor eax, eax
    jmp return
gate:
    mov eax, 63                 # dup2
    mov ebx, [ebp+11*W]
    xor ecx, ecx
    int 0x80
    test eax, eax
    js failed
    mov eax, 358                # execveat(descriptor, "", argv, no environment, AT_EMPTY_PATH)
    mov ebx, [ebp+3*W]
    mov edx, [ebp+12*W]
    lea ecx, [edx+W]            # argv ends with a null pointer: its bytes are an empty string, too
    xor esi, esi
    mov edi, AT_EMPTY_PATH
    int 0x80
    jmp failed
.endif
