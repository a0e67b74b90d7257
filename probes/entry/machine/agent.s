# The agent: a static i386 program that makes calls for a driver (probes/entry/agent.py), without libc: a whole ELF file.
#
# It reads requests from descriptor 0 and writes replies to descriptor 1. It works on copies of both, so that a call may close
# these. If an argument is the path of a line (a terminal, which it makes raw, or another device), it uses that instead: there each
# request and reply is followed by its CRC-32. Requests and replies begin with six little-endian words:
#
#   request:  0 "SCq1"   4 sequence number   8 operation   12 bytes that follow   16 20 operands
#   reply:    0 "SCr1"   4 that number       8 status      12 bytes that follow   16 20 values
#
# All requests of one read are answered by one write, so a batch costs two system calls. Bytes that are no request are
# skipped. The first reply, number 0, comes unasked: what the line holds before it is noise.
#
#   0 info                                             replies eight words: see `info`
#   1 write   address                bytes to write    a fault is status 1, here and in read
#   2 read    address, size                            replies the bytes
#   3 enter                          ten words: path, eax ebx ecx edx esi edi ebp, call id, flags to set
#                                                      replies the frame: see FRAME
#   4 call    address, argument                        calls a C function
#   5 fork                                             the child replies its pid and serves; when it has ended the parent
#                                                      replies status 2, the child's wait status and pid, and serves again
#   6 exit    status, children only                    no reply; an agent that is no child of another stays if the second
#                                                      operand is not 0, and replies
#
# Status 3: the request is malformed. Status 4: fork failed, the first value is the negative errno. On a line, status 5: the
# checksum is wrong, or bytes that are no request were skipped; so is a request whose rest does not come within a second.
#
# Code and data are segments of their own: valgrind refuses a program with one. Data is addressed absolutely, so that no
# register is needed when all seven are a call's. The label gate is the entry instruction of path 0.
.intel_syntax noprefix
.set BASE, 0x8048000
.set DATA, 0x804b000                    # its first word is in the file, a copy of the ELF magic; the rest is zero
.set REQUEST, 0x31714353
.set REPLY, 0x31724353
.set MOST, 0x8000                       # the most bytes that follow a header
.set HEADER, 24
.set SEQUENCE, 4
.set STATUS, 8
.set SIZE, 12
.set FIRST, 16
.set SECOND, 20
.set FAULT, 1
.set GONE, 2
.set MALFORMED, 3
.set FAILED, 4
.set DAMAGED, 5
.set SILENCE, 1000                      # milliseconds

.set SYSINFO, DATA+4                    # address of __kernel_vsyscall, 0 without a vDSO
.set PAGE_SIZE, DATA+8
.set IN_SIZE, DATA+12                   # bytes read
.set IN_AT, DATA+16                     # where the next request begins
.set OUT_SIZE, DATA+20                  # bytes to write
.set RESUME, DATA+24                    # where a fault resumes, 0 if it is not expected
.set RESUME_SP, DATA+28
.set PATH, DATA+32
.set SAVED_SP, DATA+36
.set ACTION, DATA+40                    # struct kernel_sigaction: five words
.set STATUS_WORD, DATA+60
.set IN_FD, DATA+0xe0
.set OUT_FD, DATA+0xe4
.set TRAILER, DATA+0xe8                 # bytes of a checksum: 4 on a line, 0 without one
.set CHILD, DATA+0xec                   # not 0 in a child made by fork
.set POLLFD, DATA+0xf0                  # struct pollfd
.set SKIPPING, DATA+0xf8                # not 0 after bytes that are no request
.set COPIES, 900                        # the copies have the first free numbers from here on
.set FRAME, DATA+64                     # 7 registers in, call id, 7 registers out, flags before and after,
.set CALL_ID, FRAME+28                  # ds es fs gs before and after, esp before and after
.set OUT, FRAME+32
.set FLAGS, FRAME+60
.set SEGMENTS, FRAME+68
.set STACKS, FRAME+100
.set FRAME_WORDS, 27
.set IN, DATA+0x100
.set IN_ROOM, 0x10000
.set OUT_BUFFER, IN+IN_ROOM
.set OUT_HIGH, 0x7000                   # above this the next reply may not fit
.set STACK_AND_ALL, 0x20100

header:
    .byte 0x7f, 'E', 'L', 'F', 1, 1, 1, 0
    .zero 8
    .short 2, 3                         # ET_EXEC, EM_386
    .long 1, BASE+start-header, segments-header, 0, 0
    .short 52, 32, 2, 40, 0, 0
segments:
    .long 1, 0, BASE, BASE, end-header, end-header, 5, 0x1000               # PT_LOAD, readable and executable
    .long 1, 0, DATA, DATA, 4,           STACK_AND_ALL, 6, 0x1000           # PT_LOAD, readable and writable

start:
    cld
    mov esi, esp
    mov ecx, [esi]
    lea edi, [esi+4*ecx+8]              # after argv and its null: the environment, then the auxiliary vector
environment:
    mov eax, [edi]
    add edi, 4
    test eax, eax
    jnz environment
auxiliary:
    mov eax, [edi]
    mov edx, [edi+4]
    add edi, 8
    cmp eax, 32                         # AT_SYSINFO
    jne 1f
    mov [SYSINFO], edx
1:  cmp eax, 6                          # AT_PAGESZ
    jne 1f
    mov [PAGE_SIZE], edx
1:  test eax, eax
    jnz auxiliary
    cmp ecx, 2
    jb no_line
    lea edx, [esi+4*ecx]                # process 1 gets what the kernel does not know as arguments, too
1:  dec ecx
    jz no_line
    mov ebx, [edx]
    sub edx, 4
    cmp byte ptr [ebx], '/'
    jne 1b
    call open_line
    jmp opened
no_line:
    xor ebx, ebx
    call copy_descriptor
    mov [IN_FD], eax
    inc ebx
    call copy_descriptor
    mov [OUT_FD], eax
opened:
    mov dword ptr [ACTION], BASE+on_fault-header
    mov dword ptr [ACTION+4], 0x40000000    # SA_NODEFER: the handler does not return
    mov ebx, 11                         # SIGSEGV
    call set_action
    mov ebx, 7                          # SIGBUS
    call set_action
    mov esi, IN                         # all zero: the number is 0
    call begin
    call info
    jmp answer

# Serves the next request: esi is the request, edi the reply, eax becomes the status.
next:
    mov eax, [IN_SIZE]
    mov esi, [IN_AT]
    sub eax, esi
    cmp eax, HEADER
    jb more
    add esi, IN
    cmp dword ptr [esi], REQUEST
    jne skip
    mov ecx, [esi+SIZE]
    cmp ecx, MOST
    ja skip
    add ecx, HEADER
    mov ebp, ecx
    add ebp, [TRAILER]
    cmp eax, ebp
    jb more
    cmp dword ptr [OUT_SIZE], OUT_HIGH
    jbe 1f
    call flush
1:  cmp dword ptr [TRAILER], 0
    je 1f
    push esi
    call checksum
    cmp eax, [esi]
    pop esi
    je 1f
    inc dword ptr [IN_AT]
    inc dword ptr [SKIPPING]
    call begin
    mov eax, DAMAGED
    jmp answer
1:  add [IN_AT], ebp
    xor ebp, ebp
    mov [SKIPPING], ebp
    call begin
    mov ecx, [esi+STATUS]               # the operation
    mov eax, MALFORMED
    cmp ecx, 6
    ja answer
    call [BASE+operations-header+4*ecx]
answer:
    mov [edi+STATUS], eax
    mov ecx, [edi+SIZE]
    add ecx, HEADER
    add [OUT_SIZE], ecx
    mov eax, [TRAILER]
    add [OUT_SIZE], eax
    test eax, eax
    jz next
    mov esi, edi
    call checksum
    mov [esi], eax
    jmp next
skip:                                   # no request: on a line that is said, once until the next request
    inc dword ptr [IN_AT]
    cmp dword ptr [TRAILER], 0
    je next
    cmp dword ptr [SKIPPING], 0
    jne next
    inc dword ptr [SKIPPING]
    call flush
    mov esi, IN                         # the number of the reply means nothing
    call begin
    mov eax, DAMAGED
    jmp answer

more:                                   # everything is answered: waits for input
    call flush
    mov esi, [IN_AT]
    mov ecx, [IN_SIZE]
    sub ecx, esi
    mov [IN_SIZE], ecx
    and dword ptr [IN_AT], 0
    mov edi, IN
    add esi, edi
    rep movsb
again:
    cmp edi, IN
    je 1f
    cmp dword ptr [TRAILER], 0
    je 1f
    mov eax, [IN_FD]
    mov [POLLFD], eax
    mov dword ptr [POLLFD+4], 1         # POLLIN
    mov eax, 168                        # poll
    mov ebx, POLLFD
    mov ecx, 1
    mov edx, SILENCE
    call kernel
    test eax, eax
    jz skip
1:  mov eax, 3                          # read
    mov ebx, [IN_FD]
    mov ecx, edi                        # after the beginning of a request
    mov edx, IN+IN_ROOM
    sub edx, ecx
    call kernel
    cmp eax, -4                         # EINTR
    je again
    test eax, eax
    jle ended
    add [IN_SIZE], eax
    jmp next
ended:                                  # the driver is gone
    neg eax
    mov ebx, eax
    jmp leave

operations:
    .long BASE+info-header, BASE+write-header, BASE+read-header, BASE+enter-header
    .long BASE+call_function-header, BASE+fork-header, BASE+exit-header

# Writes the header of the reply to the request at esi, and returns it in edi.
begin:
    mov edi, [OUT_SIZE]
    add edi, OUT_BUFFER
    mov dword ptr [edi], REPLY
    mov eax, [esi+SEQUENCE]
    mov [edi+SEQUENCE], eax
    xor eax, eax
    mov [edi+SIZE], eax
    mov [edi+FIRST], eax
    mov [edi+SECOND], eax
    ret

info:
    mov dword ptr [edi+SIZE], 32
    mov eax, 20                         # getpid
    call kernel
    push edi
    add edi, HEADER
    stosd
    mov eax, [SYSINFO]
    stosd
    mov eax, [PAGE_SIZE]
    stosd
    mov eax, SYSINFO                    # where code that the driver brings finds the address of __kernel_vsyscall
    stosd
    mov eax, BASE+int80_after-header    # instruction pointer of path 0
    stosd
    mov eax, BASE+vdso_after-header     # return address of path 1
    stosd
    mov eax, BASE
    stosd
    mov eax, end-header                 # size of the code
    stosd
    pop edi
    xor eax, eax
    ret

write:
    mov ecx, [esi+SIZE]
    mov edx, [esi+FIRST]
    add esi, HEADER
    jmp copy
read:
    mov ecx, [esi+SECOND]
    cmp ecx, MOST
    ja malformed
    mov [edi+SIZE], ecx
    lea edx, [edi+HEADER]
    mov esi, [esi+FIRST]
copy:                                   # ecx bytes from esi to edx
    push edi
    mov [RESUME_SP], esp
    mov dword ptr [RESUME], BASE+fault-header
    mov edi, edx
    rep movsb
    xor eax, eax
copied:
    and dword ptr [RESUME], 0
    pop edi
    ret
fault:                                  # the handler has restored esp
    mov edi, [esp]
    and dword ptr [edi+SIZE], 0
    mov eax, FAULT
    jmp copied
malformed:
    mov eax, MALFORMED
    ret

# The handler of SIGSEGV and SIGBUS. A fault that is not expected is a call's: it ends the process as without a handler.
on_fault:
    cld
    cmp dword ptr [RESUME], 0
    je unexpected
    mov esp, [RESUME_SP]
    jmp dword ptr [RESUME]
unexpected:
    mov esi, [esp+4]                    # the signal
    and dword ptr [ACTION], 0           # SIG_DFL
    mov ebx, esi
    call set_action
    mov eax, 20                         # getpid
    call kernel
    mov ebx, eax
    mov ecx, esi
    mov eax, 37                         # kill
    call kernel
    mov ebx, 127
    jmp leave

copy_descriptor:                        # ebx: of which; the same one where the limit of descriptors is too low
    mov eax, 55                         # fcntl
    mov ecx, 1030                       # F_DUPFD_CLOEXEC
    mov edx, COPIES
    call kernel
    test eax, eax
    jns 1f
    mov eax, ebx
1:  ret

set_action:                             # rt_sigaction(ebx, ACTION, 0, 8)
    mov eax, 174
    mov ecx, ACTION
    xor edx, edx
    push esi
    mov esi, 8
    call kernel
    pop esi
    ret

# Makes one call. Paths: 0 int80, 1 vdso; 2 and 3 are the same at addresses that no tracer stops at.
enter:
    cmp dword ptr [esi+SIZE], 40
    jne malformed
    mov ecx, [esi+HEADER]
    cmp ecx, 3
    ja malformed
    test ecx, 1
    jz 1f
    cmp dword ptr [SYSINFO], 0
    je malformed
1:  mov eax, [BASE+paths-header+4*ecx]
    mov [PATH], eax
    add esi, HEADER+4
    push edi
    mov edi, FRAME
    mov ecx, 8                          # seven registers and the call id
    rep movsd
    mov edi, SEGMENTS
    call store_segments
    mov eax, 0x202                      # interrupts: no flag depends on what the agent did before
    or eax, [esi]
    mov [FLAGS], eax
    mov [SAVED_SP], esp
    push [CALL_ID]                      # on top of the stack, where the tracer reads it
    mov [STACKS], esp
    push eax
    popfd
    mov eax, [FRAME]
    mov ebx, [FRAME+4]
    mov ecx, [FRAME+8]
    mov edx, [FRAME+12]
    mov esi, [FRAME+16]
    mov edi, [FRAME+20]
    mov ebp, [FRAME+24]
    jmp dword ptr [PATH]
gate:
    int 0x80
int80_after:
    jmp entered
vdso:
    call dword ptr [SYSINFO]
vdso_after:
    jmp entered
quiet_int80:
    int 0x80
    jmp entered
quiet_vdso:
    call dword ptr [SYSINFO]
entered:
    mov [OUT], eax
    mov [OUT+4], ebx
    mov [OUT+8], ecx
    mov [OUT+12], edx
    mov [OUT+16], esi
    mov [OUT+20], edi
    mov [OUT+24], ebp
    mov [STACKS+4], esp
    mov esp, [SAVED_SP]
    pushfd
    pop [FLAGS+4]
    push 0x202
    popfd
    xor ebp, ebp                        # the tracer knows the calls of path 1 by ebp
    mov edi, SEGMENTS+16
    call store_segments
    pop edi
    push edi
    mov dword ptr [edi+SIZE], 4*FRAME_WORDS
    add edi, HEADER
    mov esi, FRAME
    mov ecx, FRAME_WORDS
    rep movsd
    pop edi
    xor eax, eax
    ret
paths:
    .long BASE+gate-header, BASE+vdso-header, BASE+quiet_int80-header, BASE+quiet_vdso-header

store_segments:                         # four words at edi
    mov eax, ds
    stosd
    mov eax, es
    stosd
    mov eax, fs
    stosd
    mov eax, gs
    stosd
    ret

call_function:
    push [esi+SECOND]
    call [esi+FIRST]
    pop ecx
    xor eax, eax
    ret

# The child takes the rest of the input with it.
fork:
    call flush
    call begin
    mov eax, 2
    call kernel
    test eax, eax
    js failed
    jnz wait
    inc dword ptr [CHILD]
    mov eax, 20                         # getpid
    call kernel
    mov [edi+FIRST], eax
    xor eax, eax
    ret
failed:
    mov [edi+FIRST], eax
    mov eax, FAILED
    ret
wait:
    mov [edi+SECOND], eax
    mov esi, 114                        # wait4
1:  push esi
    mov eax, esi
    mov ebx, [edi+SECOND]
    mov ecx, STATUS_WORD
    xor edx, edx
    xor esi, esi
    call kernel
    pop esi
    cmp eax, -4                         # EINTR
    je 1b
    cmp eax, -38                        # ENOSYS: there may be waitpid
    mov eax, esi
    mov esi, 7
    jne 2f
    cmp eax, esi
    jne 1b
2:  mov eax, [STATUS_WORD]
    mov [edi+FIRST], eax
    and dword ptr [IN_SIZE], 0
    and dword ptr [IN_AT], 0
    mov eax, GONE
    ret

exit:
    xor eax, eax
    cmp [esi+SECOND], eax
    je 1f
    cmp [CHILD], eax
    jne 1f
    ret
1:  mov ebx, [esi+FIRST]
leave:
    call flush
    mov eax, 1                          # exit
    call kernel

flush:                                  # writes all replies, and preserves every register
    pushad
    mov esi, OUT_BUFFER
    mov edi, [OUT_SIZE]
    and dword ptr [OUT_SIZE], 0
1:  test edi, edi
    jz 2f
    mov eax, 4                          # write
    mov ebx, [OUT_FD]
    mov ecx, esi
    mov edx, edi
    call kernel
    cmp eax, -4                         # EINTR
    je 1b
    test eax, eax
    js 3f
    add esi, eax
    sub edi, eax
    jmp 1b
2:  popad
    ret
3:  mov eax, 1                          # exit: no one reads the replies
    mov ebx, eax
    call kernel

# The agent's own calls: by the vDSO where there is one, it is several times faster.
kernel:
    cmp dword ptr [SYSINFO], 0
    je 1f
    jmp dword ptr [SYSINFO]
1:  int 0x80
    ret

.include "line.s"
end:
