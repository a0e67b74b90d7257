# Forks a child that makes a list of calls, and exits with the last result, or with its error number.
#
#   void child(plan *)          every field is a 32-bit word; packed by probes/testing/children.py
#
#   plan:  0 what the fork returns in the parent   4 number of calls, the fork included   8 the calls, the fork first:
#         each has eax ebx ecx edx esi edi ebp
#
# The entry instruction goes into the label gate, as in stub.s. The page is not a gate's: no tracer stops these calls.
.intel_syntax noprefix
.ifdef WORD64
    push rbx
    push rbp
    push r12
    push r13
    push rax                            # the stack stays at a multiple of 16 bytes
    mov r12d, edi
    lea r13d, [r12+8]
call:
    mov eax, [r13]
    mov ebx, [r13+4]
    mov ecx, [r13+8]
    mov edx, [r13+12]
    mov esi, [r13+16]
    mov edi, [r13+20]
    mov ebp, [r13+24]
gate:
    .byte 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc
    lea ecx, [r12+8]
    cmp r13d, ecx
    jne 1f
    test eax, eax
    jnz parent
1:  add r13d, 28
    dec dword ptr [r12+4]
    jnz call
.else
    push ebx
    push ebp
    push esi
    push edi
    mov edi, [esp+20]
    lea esi, [edi+8]
call:
    push edi
    push esi
    mov eax, [esi]
    mov ebx, [esi+4]
    mov ecx, [esi+8]
    mov edx, [esi+12]
    mov edi, [esi+20]
    mov ebp, [esi+24]
    mov esi, [esi+16]
gate:
    .byte 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc
    pop esi
    pop edi
    lea ecx, [edi+8]
    cmp esi, ecx
    jne 1f
    test eax, eax
    jnz parent
1:  add esi, 28
    dec dword ptr [edi+4]
    jnz call
.endif
    mov ebx, eax
    test eax, eax
    jns 1f
    neg ebx
1:  mov eax, 1                          # exit
    int 0x80
parent:
.ifdef WORD64
    mov [r12], eax
    pop rax
    pop r13
    pop r12
    pop rbp
    pop rbx
.else
    mov [edi], eax
    pop edi
    pop esi
    pop ebp
    pop ebx
.endif
    ret
