# Replays scripts: a static i386 program without libc, a whole ELF file but for its tables, which probes/script/elf.py puts
# behind the code. It runs each script in a child with a new network, and prints what its checks found as KTAP on
# descriptor 1. The exit status is 1 if a check is not ok.
#
# The tables are little-endian words, pointers are addresses:
#
#   number of checks, pointer to the scripts, seconds that a script may take
#   script:   steps, memory, number of checks, pointer to their names (pointers to texts), what it needs: 1 other user ids,
#             2 a network of its own, protocols; after the last, 0
#   protocols: for each 1 if the kernel must have it, 0 if it must not (a byte), and its name in /proc/net/protocols (a
#             text); after the last, 2. Where that file cannot be read the script runs.
#   memory:   address and size of pages, which are mapped and poisoned; after the last, 0
#   step:     its number, and
#     0 end
#     1 call      text, bits of the registers that are slots, slot of the result or -1, eax ebx ecx edx esi edi ebp
#     2 expect    kind, check, text of what is expected, 1 if the value is a slot, value: of the result of the last call
#     3 put       address, size, bytes
#     4 store     address, size 1 to 4, slot
#     5 load      slot, address, size 1 to 4
#     6 compare   check, address, size, bytes, 0 or bytes that are 0 where any byte will do
#     7 verdict   check: it is ok, if nothing was found that is not as expected
#
# Kinds: 0 the value, of a check; 1 success and 2 the value, needed by what follows; 3 success, by set-up; 4 no more than 0,
# of a check. The label gate is the entry instruction of the calls of scripts.
.intel_syntax noprefix
.set BASE, 0x8048000
.set DATA, 0xa000000
.set POISON, 0xa5
.set FAILED, 1                          # the state of a check: something was not as expected
.set OK, 2                              # its verdict
.set NOT_OK, 3
.set REFUSED, 1                         # the status of a child: a call of set-up failed
.set SKIPPED, 2                         # a call that belongs to no behaviour failed
.set OTHER, 3                           # the kernel has other protocols than the script is for

.set REGISTERS, DATA+4                  # of the next call: eax ebx ecx edx esi edi ebp
.set RESULT, DATA+32
.set TEXT, DATA+36                      # of the last call
.set SAVED_SP, DATA+40
.set RETURN_SP, DATA+44
.set SCRIPT, DATA+48
.set NAMES, DATA+52
.set STATE, DATA+56                     # a byte for each check of the script, in memory shared with the child
.set NUMBER, DATA+60                    # of the next check
.set BAD, DATA+64                       # 1 if a check was not ok
.set ENDED, DATA+68                     # wait status of the child
.set UID, DATA+72
.set GID, DATA+76
.set WORDS, DATA+80
.set REQUEST, DATA+96                   # struct ifreq
.set OUT_SIZE, DATA+132
.set OUT_FD, DATA+136                   # a copy of descriptor 1, which a script may close
.set COPIES, 900                        # it has the first free number from here on
.set SLOTS, DATA+0x100
.set SLOT_ROOM, 0x8000
.set OUT, SLOTS+SLOT_ROOM
.set OUT_ROOM, 0x1000
.set FILE, DATA+0xa000                  # what was read of /proc/net/protocols, a line feed before it
.set FILE_ROOM, 0x5000
.set STATES, 0x10000                    # bytes of the shared memory
.set LAST, STATES-4                     # there, the text of the child's last call
.set ALL, 0x10000

header:
    .byte 0x7f, 'E', 'L', 'F', 1, 1, 1, 0
    .zero 8
    .short 2, 3                         # ET_EXEC, EM_386
    .long 1, BASE+start-header, segments-header, 0, 0
    .short 52, 32, 2, 40, 0, 0
segments:                               # the sizes of the first are those with the tables
    .long 1, 0, BASE, BASE, end-header, end-header, 5, 0x1000               # PT_LOAD, readable and executable
    .long 1, 0, DATA, DATA, 4,          ALL, 6, 0x1000                      # PT_LOAD, readable and writable

start:
    cld
    mov eax, 48                         # signal: where SIGCHLD is ignored a child is not waited for
    mov ebx, 17
    xor ecx, ecx                        # SIG_DFL
    int 0x80
    mov eax, 55                         # fcntl
    mov ebx, 1
    xor ecx, ecx                        # F_DUPFD
    mov edx, COPIES
    int 0x80
    mov [OUT_FD], eax
    test eax, eax
    jns 1f
    mov [OUT_FD], ebx
1:
    mov eax, 20                         # getpid
    int 0x80
    cmp eax, 1
    jne 1f
    call open_list
    test eax, eax
    jns 1f
    mov eax, 39                         # mkdir: the first process of a system has no /proc yet
    mov ebx, BASE+slash_proc-header
    mov ecx, 0x16d
    int 0x80
    mov eax, 21                         # mount
    mov ecx, ebx
    mov ebx, BASE+proc-header
    mov edx, ebx
    xor esi, esi
    xor edi, edi
    int 0x80
1:
    mov edi, BASE+version-header
    call print
    mov eax, [BASE+end-header]
    call print_number
    call print_line
    mov ebx, STATES                     # mmap2 of shared memory; without it a child's verdicts are lost
    mov eax, 0x21                       # MAP_SHARED | MAP_ANONYMOUS
    xor ecx, ecx
    call map
    cmp eax, -4096
    ja no_memory
    mov [STATE], eax
    mov esi, [BASE+end-header+4]
next_script:
    cmp dword ptr [esi], 0
    je finished
    mov [SCRIPT], esi
    mov eax, [esi+12]
    mov [NAMES], eax
    mov edi, [STATE]
    mov ecx, [esi+8]
    xor eax, eax
    rep stosb
    mov edi, [STATE]
    mov [edi+LAST], eax
    call flush
    mov eax, 2                          # fork
    int 0x80
    test eax, eax
    jz child
    js alone
    mov dword ptr [ENDED], 0xff00       # where wait4 does not say another status
    mov edi, eax
wait:
    mov eax, 114                        # wait4
    mov ebx, edi
    mov ecx, ENDED
    xor edx, edx
    push esi
    xor esi, esi
    int 0x80
    pop esi
    cmp eax, -4                         # EINTR
    je wait
    cmp eax, -38                        # ENOSYS
    jne report
    mov eax, 7                          # waitpid
    mov ebx, edi
    mov ecx, ENDED
    xor edx, edx
    int 0x80
    jmp report
alone:                                  # without fork every script runs here, and a crash ends all
    call run
    shl eax, 8
    mov [ENDED], eax
report:
    xor ebx, ebx                        # the check
    mov esi, [SCRIPT]
1:  cmp ebx, [esi+8]
    jae 9f
    inc dword ptr [NUMBER]
    mov eax, [STATE]
    movzx eax, byte ptr [eax+ebx]
    mov edi, BASE+ok-header
    cmp al, OK
    je 2f
    cmp al, NOT_OK
    je 3f
    cmp dword ptr [ENDED], SKIPPED<<8
    je 2f
    cmp dword ptr [ENDED], OTHER<<8
    je 2f
3:  mov dword ptr [BAD], 1
    mov edi, BASE+not_ok-header
2:  call print
    push eax
    mov eax, [NUMBER]
    call print_number
    mov al, ' '
    call print_byte
    mov eax, [NAMES]
    mov edi, [eax+4*ebx]
    call print
    pop eax
    cmp al, OK
    jae 5f
    mov edi, BASE+because-header        # no verdict was reached: says how the child ended
    call print
    mov eax, [ENDED]
    mov edi, BASE+signal-header
    and eax, 0x7f
    jnz 4f
    movzx eax, byte ptr [ENDED+1]
    mov edi, BASE+skipped-header
    cmp al, SKIPPED
    je 6f
    mov edi, BASE+other-header
    cmp al, OTHER
    je 6f
    mov edi, BASE+refused-header
    cmp al, REFUSED
    je 6f
    mov edi, BASE+ended-header
4:  call print
    call print_number
    mov edi, [STATE]
    mov edi, [edi+LAST]
    test edi, edi
    jz 5f
    push edi
    mov edi, BASE+in-header
    call print
    pop edi
6:  call print
5:  call print_line
    inc ebx
    jmp 1b
9:  add esi, 24
    jmp next_script
finished:
    call flush
    mov ebx, [BAD]
    jmp leave
no_memory:
    mov edi, BASE+bail_out-header
    call print
    call flush
    mov ebx, 1
leave:
    mov eax, 1                          # exit
    int 0x80

child:
    call run
    mov ebx, eax
    call flush
    jmp leave

# Runs the script, and returns 0, REFUSED, SKIPPED or OTHER in eax.
run:
    pushad
    mov [RETURN_SP], esp
    mov eax, 27                         # alarm
    mov ebx, [BASE+end-header+8]
    int 0x80
    call surroundings
    call protocols
    mov esi, [SCRIPT]
    mov esi, [esi+4]
1:  mov ecx, [esi]
    jecxz 2f
    mov ebx, [esi+4]
    mov eax, 0x32                       # MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    call map
    mov ecx, [esi]
    cmp eax, ecx
    mov eax, SKIPPED
    jne done
    mov edi, ecx
    mov ecx, [esi+4]
    mov al, POISON
    rep stosb
    add esi, 8
    jmp 1b
2:  mov esi, [SCRIPT]
    mov esi, [esi]
next:
    lodsd
    jmp [BASE+steps-header+4*eax]
steps:
    .long BASE+step_end-header, BASE+step_call-header, BASE+step_expect-header, BASE+step_put-header
    .long BASE+step_store-header, BASE+step_load-header, BASE+step_compare-header, BASE+step_verdict-header

step_end:
    xor eax, eax
done:                                   # from anywhere within run
    mov esp, [RETURN_SP]
    mov [esp+28], eax
    popad
    ret

step_call:
    lodsd
    mov [TEXT], eax
    mov edx, [STATE]
    mov [edx+LAST], eax
    lodsd
    mov edx, eax
    lodsd
    push eax
    mov edi, REGISTERS
    mov ecx, 7
1:  lodsd
    shr edx, 1
    jnc 2f
    mov eax, [SLOTS+4*eax]
2:  stosd
    loop 1b
    call enter
    pop edx
    mov eax, [RESULT]
    cmp edx, -1
    je next
    mov [SLOTS+4*edx], eax
    jmp next

enter:
    pushad
    mov [SAVED_SP], esp
    mov eax, [REGISTERS]
    mov ebx, [REGISTERS+4]
    mov ecx, [REGISTERS+8]
    mov edx, [REGISTERS+12]
    mov esi, [REGISTERS+16]
    mov edi, [REGISTERS+20]
    mov ebp, [REGISTERS+24]
gate:
    int 0x80
    cld
    mov esp, [SAVED_SP]
    mov [RESULT], eax
    popad
    ret

step_expect:
    mov eax, [RESULT]
    mov edx, [esi+16]
    cmp dword ptr [esi+12], 0
    je 1f
    mov edx, [SLOTS+4*edx]
1:  mov ecx, [esi]
    cmp ecx, 1
    je 2f
    cmp ecx, 3
    je 2f
    cmp ecx, 4
    je 3f
    cmp eax, edx
    je 5f
    jmp 4f
2:  cmp eax, -4096
    jbe 5f
    jmp 4f
3:  test eax, eax
    jle 5f
4:  call show                           # it is not as expected
    mov edi, [TEXT]
    call print
    mov edi, BASE+equals-header
    call print
    mov eax, [RESULT]
    call print_number
    mov edi, BASE+expected-header
    call print
    mov edi, [esi+8]
    call print
    call print_line
    mov ecx, [esi]
    mov eax, REFUSED
    cmp ecx, 1
    je done
    cmp ecx, 2
    je done
    mov eax, SKIPPED
    cmp ecx, 3
    je done
    mov eax, [esi+4]
    call failed
5:  add esi, 20
    jmp next

step_put:
    mov edi, [esi]
    mov ecx, [esi+4]
    push esi
    mov esi, [esi+8]
    rep movsb
    pop esi
    add esi, 12
    jmp next

step_store:
    mov edi, [esi]
    mov ecx, [esi+4]
    mov eax, [esi+8]
    push esi
    lea esi, [SLOTS+4*eax]
    rep movsb
    pop esi
    add esi, 12
    jmp next

step_load:
    mov eax, [esi]
    lea edi, [SLOTS+4*eax]
    mov dword ptr [edi], 0
    mov ecx, [esi+8]
    push esi
    mov esi, [esi+4]
    rep movsb
    pop esi
    add esi, 12
    jmp next

step_compare:
    xor ecx, ecx
1:  cmp ecx, [esi+8]
    jae 5f
    mov edx, [esi+16]
    test edx, edx
    jz 2f
    cmp byte ptr [edx+ecx], 0
    je 3f
2:  mov eax, [esi+4]
    mov al, [eax+ecx]
    mov edx, [esi+12]
    cmp al, [edx+ecx]
    jne 4f
3:  inc ecx
    jmp 1b
4:  call show
    mov edi, [TEXT]
    call print
    mov edi, BASE+wrote-header
    call print
    mov edi, [esi+4]
    call print_bytes
    mov edi, BASE+bytes-header
    call print
    mov edi, [esi+12]
    call print_bytes
    call print_line
    mov eax, [esi]
    call failed
5:  add esi, 20
    jmp next

step_verdict:
    lodsd
    add eax, [STATE]
    add byte ptr [eax], OK              # FAILED becomes NOT_OK
    jmp next

failed:                                 # of check eax
    add eax, [STATE]
    mov byte ptr [eax], FAILED
    ret

# Begins a line about the check of a step at esi: kinds of expectations that belong to none have the script's first name.
show:
    mov al, '#'
    call print_byte
    mov al, ' '
    call print_byte
    mov eax, [esi+4]
    cmp dword ptr [esi-4], 2
    je 1f
    mov eax, [esi]
1:  shl eax, 2
    add eax, [NAMES]
    mov edi, [eax]
    call print
    mov edi, BASE+colon-header
    jmp print

# A new network with a loopback link that is up, and an empty directory, as far as they can be had.
surroundings:
    mov eax, 201                        # geteuid32
    int 0x80
    mov [UID], eax
    mov eax, 202                        # getegid32
    int 0x80
    mov [GID], eax
    mov eax, [SCRIPT]
    test dword ptr [eax+16], 1
    jnz 4f
    mov eax, 310                        # unshare
    mov ebx, 0x50020000                 # CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS
    int 0x80
    test eax, eax
    jz 5f
4:  mov eax, 310
    mov ebx, 0x40020000                 # without CLONE_NEWUSER
    int 0x80
    test eax, eax
    jz 1f
    mov ecx, [SCRIPT]
    test dword ptr [ecx+16], 2
    jz 2f
    mov eax, SKIPPED
    jmp done
5:
    mov edi, BASE+deny-header
    call print
    mov ebx, BASE+setgroups-header
    call write_file
    mov eax, [UID]
    mov ebx, BASE+uid_map-header
    call write_map
    mov eax, [GID]
    mov ebx, BASE+gid_map-header
    call write_map
1:  mov eax, 21                         # mount: private, then a tmpfs
    xor ebx, ebx
    mov ecx, BASE+root-header
    xor edx, edx
    mov esi, 0x44000                    # MS_REC | MS_PRIVATE
    xor edi, edi
    int 0x80
    mov eax, 21
    mov ebx, BASE+tmpfs-header
    mov ecx, BASE+tmp-header
    mov edx, ebx
    xor esi, esi
    int 0x80
2:  mov eax, 12                         # chdir
    mov ebx, BASE+tmp-header
    int 0x80
    mov eax, 20                         # getpid: names a directory, as another one may have files already
    int 0x80
    mov ebp, eax
6:  mov eax, ebp
    inc ebp
    call print_number
    call take
    mov eax, 39                         # mkdir
    mov ebx, OUT
    mov ecx, 0x1c0
    int 0x80
    cmp eax, -17                        # EEXIST
    je 6b
    mov eax, 12
    mov ebx, OUT
    int 0x80
    mov dword ptr [WORDS], 2            # socket(AF_INET, SOCK_DGRAM, 0)
    mov dword ptr [WORDS+4], 2
    mov eax, 102
    mov ebx, 1
    mov ecx, WORDS
    int 0x80
    test eax, eax
    js 3f
    mov ebx, eax
    mov dword ptr [REQUEST], 0x6f6c     # lo
    mov dword ptr [REQUEST+16], 1       # IFF_UP
    mov eax, 54                         # ioctl
    mov ecx, 0x8914                     # SIOCSIFFLAGS
    mov edx, REQUEST
    int 0x80
    mov eax, 6                          # close
    int 0x80
3:  ret

# Ends the script if the kernel has not the protocols that it is for.
protocols:
    mov esi, [SCRIPT]
    mov esi, [esi+20]
    cmp byte ptr [esi], 2
    je 9f
    call open_list
    test eax, eax
    js 9f
    mov ebx, eax
    mov edi, FILE
    mov byte ptr [edi], 10
    inc edi
1:  mov eax, 3                          # read
    mov ecx, edi
    mov edx, FILE+FILE_ROOM-1
    sub edx, edi
    jz 2f
    int 0x80
    test eax, eax
    jle 2f
    add edi, eax
    jmp 1b
2:  mov byte ptr [edi], 0
    mov eax, 6                          # close
    int 0x80
3:  movzx ebx, byte ptr [esi]
    inc esi
    cmp ebx, 2
    je 9f
    mov edi, FILE
4:  mov al, [edi]                       # the next line
    test al, al
    jz 7f
    inc edi
    cmp al, 10
    jne 4b
    mov edx, esi
5:  mov al, [edx]
    test al, al
    jz 6f
    cmp al, [edi]
    jne 4b
    inc edx
    inc edi
    jmp 5b
6:  cmp byte ptr [edi], ' '
    jne 4b
    mov al, 1                           # it is there
7:  cmp al, bl
    jne 8f
1:  lodsb
    test al, al
    jnz 1b
    jmp 3b
8:  mov edi, BASE+comment-header
    call print
    mov eax, [NAMES]
    mov edi, [eax]
    call print
    mov edi, BASE+colon-header
    call print
    mov edi, BASE+lacks-header
    test bl, bl
    jnz 1f
    mov edi, BASE+has-header
1:  call print
    mov edi, esi
    call print
    call print_line
    mov eax, OTHER
    jmp done
9:  ret

open_list:
    mov eax, 5                          # open
    mov ebx, BASE+list-header
    xor ecx, ecx                        # O_RDONLY
    int 0x80
    ret

write_map:                              # "0 ID 1" to the file of name ebx
    push eax
    mov edi, BASE+zero-header
    call print
    pop eax
    call print_number
    mov edi, BASE+one-header
    call print
write_file:                             # what was printed
    call take
    push eax
    mov eax, 5                          # open
    mov ecx, 1                          # O_WRONLY
    xor edx, edx
    int 0x80
    pop edx
    test eax, eax
    js 1f
    mov ebx, eax
    mov eax, 4                          # write
    mov ecx, OUT
    int 0x80
    mov eax, 6
    int 0x80
1:  ret

take:                                   # ends what was printed by a NUL byte, and returns its size in eax
    mov eax, [OUT_SIZE]
    mov byte ptr [OUT+eax], 0
    and dword ptr [OUT_SIZE], 0
    ret

map:                                    # mmap2(ecx, ebx bytes, writable, eax): preserves all but eax
    pushad
    mov edi, -1
    mov esi, eax
    xchg ebx, ecx
    mov edx, 3                          # PROT_READ | PROT_WRITE
    xor ebp, ebp
    mov eax, 192
    int 0x80
    mov [esp+28], eax
    popad
    ret

# Output. All preserve every register.
print:                                  # a text at edi
    pushad
1:  mov al, [edi]
    inc edi
    test al, al
    jz 2f
    call print_byte
    jmp 1b
2:  popad
    ret

print_byte:                             # al
    pushad
    cmp dword ptr [OUT_SIZE], OUT_ROOM
    jb 1f
    call flush
1:  mov ecx, [OUT_SIZE]
    mov [OUT+ecx], al
    inc dword ptr [OUT_SIZE]
    popad
    ret

print_line:
    push eax
    mov al, 10
    call print_byte
    call flush
    pop eax
    ret

print_number:                           # eax, signed
    pushad
    test eax, eax
    jns 1f
    push eax
    mov al, '-'
    call print_byte
    pop eax
    neg eax
1:  mov ebx, 10
    xor ecx, ecx
2:  xor edx, edx
    div ebx
    push edx
    inc ecx
    test eax, eax
    jnz 2b
3:  pop eax
    add al, '0'
    call print_byte
    loop 3b
    popad
    ret

print_bytes:                            # as many as the step at esi compares, at most 64, at edi
    pushad
    mov ecx, [esi+8]
    cmp ecx, 64
    jbe 1f
    mov ecx, 64
1:  mov al, ' '
    call print_byte
    mov al, [edi]
    shr al, 4
    call 2f
    mov al, [edi]
    and al, 15
    call 2f
    inc edi
    loop 1b
    popad
    ret
2:  add al, '0'
    cmp al, '9'
    jbe print_byte
    add al, 'a'-'9'-1
    jmp print_byte

flush:
    pushad
    mov ecx, OUT
    mov edx, [OUT_SIZE]
    and dword ptr [OUT_SIZE], 0
1:  test edx, edx
    jz 2f
    mov eax, 4                          # write
    mov ebx, [OUT_FD]
    int 0x80
    cmp eax, -4                         # EINTR
    je 1b
    test eax, eax
    jle 2f
    add ecx, eax
    sub edx, eax
    jmp 1b
2:  popad
    ret

version:
    .asciz "KTAP version 1\n1.."
ok:
    .asciz "ok "
not_ok:
    .asciz "not ok "
because:
    .asciz " # "
signal:
    .asciz "ended by signal "
skipped:
    .asciz "SKIP a call that prepares the test fails"
other:
    .asciz "SKIP it is for a kernel with other protocols"
comment:
    .asciz "# "
lacks:
    .asciz "the kernel lacks the protocol "
has:
    .asciz "the kernel has the protocol "
proc:
    .asciz "proc"
slash_proc:
    .asciz "/proc"
list:
    .asciz "/proc/net/protocols"
refused:
    .asciz "a call of set-up is not as documented"
ended:
    .asciz "ended with status "
in:
    .asciz " in "
bail_out:
    .asciz "Bail out! no shared memory by mmap2\n"
equals:
    .asciz " = "
wrote:
    .asciz " wrote"
expected:
    .asciz ", expected "
bytes:
    .asciz ", expected"
colon:
    .asciz ": "
deny:
    .asciz "deny"
setgroups:
    .asciz "/proc/self/setgroups"
uid_map:
    .asciz "/proc/self/uid_map"
gid_map:
    .asciz "/proc/self/gid_map"
zero:
    .asciz "0 "
one:
    .asciz " 1"
root:
    .asciz "/"
tmpfs:
    .asciz "tmpfs"
tmp:
    .asciz "/tmp"
    .balign 4
end:
