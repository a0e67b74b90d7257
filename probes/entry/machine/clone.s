# The birth of a sandbox, for the price of one fork.
#
#   long birth(frame *)         in the caller: the helper's id, or a negative errno; in the newborn: 0
#
#   frame, in words: 0 room for the stack pointer   1 namespaces to leave, as flags of unshare(2)
#                    2 top of the helper's stack    3 top of init's stack, 0: no init   4 where the newborn's id goes, or 0
#                    5 out: negative errno          6 out: init's id                    7 out: the newborn's id
#                    8 PyOS_BeforeFork              9 PyOS_AfterFork_Child             10 PyOS_AfterFork_Parent
#
# The interpreter's own preparations are called from here, as os.fork has them: between two instructions of Python it may
# hand its lock to another thread, and in the newborn, where there is none, would wait for that for ever.
#
# A helper that shares our memory, as after vfork(2), leaves the namespaces and bears two siblings of its own, children
# of ours: init, the first process of the pid namespace, which shares our memory too and waits until we die or end it;
# and the newborn, a copy of us that returns from here as fork(2) does. The newborn cannot be the first process: the
# kernel shields that one from signals.
.intel_syntax noprefix
.set VM, 0x100
.set VFORK, 0x4000
.set PARENT, 0x8000
.set CHILD_TID, 0x1200000       # CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, as the C library's fork has them
.set SIGCHLD, 17
.set SIGKILL, 9
.set PR_SET_PDEATHSIG, 1
.ifdef WORD64
.set W, 8
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov rbx, rdi
    sub rsp, 8                  # aligned for calls
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
    mov eax, 272                # unshare
    mov rdi, [rbx+W]
    syscall
    test rax, rax
    js failed
    mov rsi, [rbx+3*W]
    test rsi, rsi
    jz bear
    mov eax, 56
    mov edi, VM|PARENT|SIGCHLD
    syscall
    test rax, rax
    jz gate
    js failed
    mov [rbx+6*W], rax
bear:
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
    jz newborn
    js failed
    mov [rbx+7*W], rax
    jmp exit
failed:
    mov [rbx+5*W], rax
exit:
    mov eax, 60                 # exit
    xor edi, edi
    syscall
newborn:
    mov rsp, [rbx]
    call [rbx+9*W]
    xor eax, eax
    jmp return
gate:
    mov eax, 157                # prctl
    mov edi, PR_SET_PDEATHSIG
    mov esi, SIGKILL
    syscall
    push 0                      # rt_sigaction(SIGCHLD, SIG_IGN): the kernel reaps what loses its parent inside
    push 0
    push 0
    push 1
    mov eax, 13
    mov edi, SIGCHLD
    mov rsi, rsp
    xor edx, edx
    mov r10d, 8
    syscall
wait:
    mov eax, 34                 # pause
    syscall
    jmp wait
.else
.set W, 4
    push ebx
    push ebp
    push esi
    push edi
    mov ebp, [esp+20]
    sub esp, 12                 # aligned for calls
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
    mov eax, 310                # unshare
    mov ebx, [ebp+W]
    int 0x80
    test eax, eax
    js failed
    mov ecx, [ebp+3*W]
    test ecx, ecx
    jz bear
    mov eax, 120
    mov ebx, VM|PARENT|SIGCHLD
    int 0x80
    test eax, eax
    jz gate
    js failed
    mov [ebp+6*W], eax
bear:
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
    jz newborn
    js failed
    mov [ebp+7*W], eax
    jmp exit
failed:
    mov [ebp+5*W], eax
exit:
    mov eax, 1                  # exit
    xor ebx, ebx
    int 0x80
newborn:
    mov esp, [ebp]
    call [ebp+9*W]
    xor eax, eax
    jmp return
gate:
    mov eax, 172                # prctl
    mov ebx, PR_SET_PDEATHSIG
    mov ecx, SIGKILL
    int 0x80
    push 0                      # rt_sigaction(SIGCHLD, SIG_IGN): the kernel reaps what loses its parent inside
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
wait:
    mov eax, 29                 # pause
    int 0x80
    jmp wait
.endif
