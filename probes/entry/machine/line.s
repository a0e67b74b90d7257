# What the agent (agent.s) does with a line: it opens it, and computes the checksums of requests and replies.

# Opens the line that ebx names, without waiting for a carrier. A terminal gets no echo, line editing or signals, 8 bits, no
# parity, 115200 bits per second. A device that is not there yet may come: it is tried for ten seconds.
open_line:
    mov edi, 1000
1:  mov eax, 5                          # open
    mov ecx, 0x902                      # O_RDWR | O_NOCTTY | O_NONBLOCK
    xor edx, edx
    call kernel
    test eax, eax
    jns 2f
    dec edi
    jz no_line_there
    cmp eax, -2                         # ENOENT
    je 5f
    cmp eax, -6                         # ENXIO: the name is there before the port of virtio can be opened
    jne no_line_there
5:  push ebx
    push 10000000
    push 0
    mov eax, 162                        # nanosleep
    mov ebx, esp
    xor ecx, ecx
    call kernel
    pop eax
    pop eax
    pop ebx
    jmp 1b
2:  mov ebx, eax
    mov eax, 55                         # fcntl
    mov ecx, 4                          # F_SETFL
    mov edx, 2                          # O_RDWR: reads block
    call kernel
    mov eax, 54                         # ioctl
    mov ecx, 0x5401                     # TCGETS: struct termios has iflag, oflag, cflag, lflag, line, and 19 characters
    mov edx, IN
    call kernel
    test eax, eax
    js 3f                               # no terminal: the device has no settings
    xor eax, eax
    mov [IN], eax
    mov [IN+4], eax
    mov [IN+12], eax
    and dword ptr [IN+8], ~0x114f       # CSTOPB, PARENB, CBAUD
    or dword ptr [IN+8], 0x18b2         # CS8 | CREAD | CLOCAL | B115200
    mov word ptr [IN+22], 0x100         # VTIME 0, VMIN 1
    mov eax, 54
    mov ecx, 0x5402                     # TCSETS
    call kernel
    test eax, eax
    js no_line_there
3:  mov dword ptr [TRAILER], 4
    call copy_descriptor
    mov [IN_FD], eax
    mov [OUT_FD], eax
    cmp eax, ebx
    je 4f
    mov eax, 6                          # close: a test finds the descriptors that the agent was started with
    jmp kernel
4:  ret
no_line_there:                          # ends with the errno
    neg eax
    mov ebx, eax
    mov eax, 1                          # exit
    call kernel

# Returns in eax the CRC-32 (that of zlib) of ecx bytes at esi, and in esi the address behind them.
checksum:
    or eax, -1
1:  xor al, [esi]
    inc esi
    mov edx, 8
2:  shr eax, 1
    jnc 3f
    xor eax, 0xedb88320
3:  dec edx
    jnz 2b
    loop 1b
    not eax
    ret
