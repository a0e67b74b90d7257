# Makes one call: loads every register from a frame, enters the kernel, stores every register into the frame.
#
#   void stub(frame *)          slots are as wide as a register; probes/entry/gate.py:RegisterFrame holds them
#
# At the entry the call's id lies on top of the stack, where the tracer reads it. The label gate is seven bytes, the length
# of `call gs:0x10`; gate.py replaces them by the entry instruction of either gate.
.intel_syntax noprefix
.ifdef WORD64
.set W, 8
.set N, 15
.else
.set W, 4
.set N, 7
.endif
.set CALL_ID, N*W               # in: N registers, then the call's id
.set OUT, (N+1)*W               # out: N registers
.set FLAGS, (2*N+1)*W           # in: flags to set; out: flags before, flags after
.set SEGMENTS, (2*N+3)*W        # ds es fs gs before, then after

.ifdef WORD64
    pushfq
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov eax, ds
    mov [rdi+SEGMENTS], rax
    mov eax, es
    mov [rdi+SEGMENTS+W], rax
    mov eax, fs
    mov [rdi+SEGMENTS+2*W], rax
    mov eax, gs
    mov [rdi+SEGMENTS+3*W], rax
    push rdi
    push qword ptr [rdi+CALL_ID]
    pushfq
    pop rax
    or rax, [rdi+FLAGS]
    mov [rdi+FLAGS], rax
    push rax
    popfq
    mov rax, [rdi]
    mov rbx, [rdi+W]
    mov rcx, [rdi+2*W]
    mov rdx, [rdi+3*W]
    mov rsi, [rdi+4*W]
    mov rbp, [rdi+6*W]
    mov r8, [rdi+7*W]
    mov r9, [rdi+8*W]
    mov r10, [rdi+9*W]
    mov r11, [rdi+10*W]
    mov r12, [rdi+11*W]
    mov r13, [rdi+12*W]
    mov r14, [rdi+13*W]
    mov r15, [rdi+14*W]
    mov rdi, [rdi+5*W]
gate:
    .byte 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc
    push rdi
    mov rdi, [rsp+16]
    mov [rdi+OUT], rax
    mov [rdi+OUT+W], rbx
    mov [rdi+OUT+2*W], rcx
    mov [rdi+OUT+3*W], rdx
    mov [rdi+OUT+4*W], rsi
    mov [rdi+OUT+6*W], rbp
    mov [rdi+OUT+7*W], r8
    mov [rdi+OUT+8*W], r9
    mov [rdi+OUT+9*W], r10
    mov [rdi+OUT+10*W], r11
    mov [rdi+OUT+11*W], r12
    mov [rdi+OUT+12*W], r13
    mov [rdi+OUT+13*W], r14
    mov [rdi+OUT+14*W], r15
    pushfq
    pop rax
    mov [rdi+FLAGS+W], rax
    pop rax
    mov [rdi+OUT+5*W], rax
    mov eax, ds
    mov [rdi+SEGMENTS+4*W], rax
    mov eax, es
    mov [rdi+SEGMENTS+5*W], rax
    mov eax, fs
    mov [rdi+SEGMENTS+6*W], rax
    mov eax, gs
    mov [rdi+SEGMENTS+7*W], rax
    add rsp, 16
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    popfq
    ret
.else
    pushfd
    push ebx
    push ebp
    push esi
    push edi
    mov edi, [esp+24]
    mov eax, ds
    mov [edi+SEGMENTS], eax
    mov eax, es
    mov [edi+SEGMENTS+W], eax
    mov eax, fs
    mov [edi+SEGMENTS+2*W], eax
    mov eax, gs
    mov [edi+SEGMENTS+3*W], eax
    push edi
    push dword ptr [edi+CALL_ID]
    pushfd
    pop eax
    or eax, [edi+FLAGS]
    mov [edi+FLAGS], eax
    push eax
    popfd
    mov eax, [edi]
    mov ebx, [edi+W]
    mov ecx, [edi+2*W]
    mov edx, [edi+3*W]
    mov esi, [edi+4*W]
    mov ebp, [edi+6*W]
    mov edi, [edi+5*W]
gate:
    .byte 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc
    push edi
    mov edi, [esp+8]
    mov [edi+OUT], eax
    mov [edi+OUT+W], ebx
    mov [edi+OUT+2*W], ecx
    mov [edi+OUT+3*W], edx
    mov [edi+OUT+4*W], esi
    mov [edi+OUT+6*W], ebp
    pushfd
    pop eax
    mov [edi+FLAGS+W], eax
    pop eax
    mov [edi+OUT+5*W], eax
    mov eax, ds
    mov [edi+SEGMENTS+4*W], eax
    mov eax, es
    mov [edi+SEGMENTS+5*W], eax
    mov eax, fs
    mov [edi+SEGMENTS+6*W], eax
    mov eax, gs
    mov [edi+SEGMENTS+7*W], eax
    add esp, 8
    pop edi
    pop esi
    pop ebp
    pop ebx
    popfd
    ret
.endif
