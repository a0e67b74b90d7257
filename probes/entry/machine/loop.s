# Makes the calls of a sweep for a range of values.
#
#   void loop(plan *)           every field and pointer is a 32-bit word; packed by probes/entry/sweep.py
#
#   plan:  0 first step   4 number of steps   8 varied cell   12 1: store it as 16 big-endian bits, 0: as 32 bits
#         16 value       20 values left   24 where the next result goes   28 cell of the judged result
#   step:  0 eax  4 ebx  8 ecx  12 edx  16 esi  20 edi  24 ebp: each points to the cell to load from
#         28 32 36 the cells that receive the result
#
# The entry instruction goes into the label gate, as in stub.s. The page is not a gate's: no tracer stops these calls.
.intel_syntax noprefix
.ifdef WORD64
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov r12d, edi
next:
    mov eax, [r12+16]
    mov edx, [r12+8]
    test dword ptr [r12+12], 1
    jnz big
    mov [rdx], eax
    jmp varied
big:
    xchg al, ah
    mov [rdx], ax
varied:
    mov r13d, [r12]
    mov r14d, [r12+4]
step:
    mov eax, [r13]
    mov eax, [rax]
    mov ebx, [r13+4]
    mov ebx, [rbx]
    mov ecx, [r13+8]
    mov ecx, [rcx]
    mov edx, [r13+12]
    mov edx, [rdx]
    mov esi, [r13+16]
    mov esi, [rsi]
    mov edi, [r13+20]
    mov edi, [rdi]
    mov ebp, [r13+24]
    mov ebp, [rbp]
gate:
    .byte 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc
    mov r15d, [r13+28]
    mov [r15], eax
    mov r15d, [r13+32]
    mov [r15], eax
    mov r15d, [r13+36]
    mov [r15], eax
    add r13d, 40
    dec r14d
    jnz step
    mov eax, [r12+28]
    mov eax, [rax]
    mov edx, [r12+24]
    mov [rdx], eax
    add dword ptr [r12+24], 4
    inc dword ptr [r12+16]
    dec dword ptr [r12+20]
    jnz next
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
.else
    push ebx
    push ebp
    push esi
    push edi
    push dword ptr [esp+20]
next:
    mov edi, [esp]
    mov eax, [edi+16]
    mov edx, [edi+8]
    test dword ptr [edi+12], 1
    jnz big
    mov [edx], eax
    jmp varied
big:
    xchg al, ah
    mov [edx], ax
varied:
    mov esi, [edi]
    mov ecx, [edi+4]
step:
    push ecx
    push esi
    mov eax, [esi]
    mov eax, [eax]
    mov ebx, [esi+4]
    mov ebx, [ebx]
    mov ecx, [esi+8]
    mov ecx, [ecx]
    mov edx, [esi+12]
    mov edx, [edx]
    mov edi, [esi+20]
    mov edi, [edi]
    mov ebp, [esi+24]
    mov ebp, [ebp]
    mov esi, [esi+16]
    mov esi, [esi]
gate:
    .byte 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc
    pop esi
    pop ecx
    mov edx, [esi+28]
    mov [edx], eax
    mov edx, [esi+32]
    mov [edx], eax
    mov edx, [esi+36]
    mov [edx], eax
    add esi, 40
    dec ecx
    jnz step
    mov edi, [esp]
    mov eax, [edi+28]
    mov eax, [eax]
    mov edx, [edi+24]
    mov [edx], eax
    add dword ptr [edi+24], 4
    inc dword ptr [edi+16]
    dec dword ptr [edi+20]
    jnz next
    add esp, 4
    pop edi
    pop esi
    pop ebp
    pop ebx
    ret
.endif
