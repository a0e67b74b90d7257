# Process 1 of an initramfs (probes/entry/initramfs.py): mounts /dev and /proc, loads modules, becomes the agent. A whole ELF file.
#
# The modules are /m/0, /m/1, …, loaded in that order. /agent gets the arguments that the kernel has for process 1: the name of
# the line, which may appear only after the last module is loaded.
.intel_syntax noprefix
.set BASE, 0x8048000

header:
    .byte 0x7f, 'E', 'L', 'F', 1, 1, 1, 0
    .zero 8
    .short 2, 3                         # ET_EXEC, EM_386
    .long 1, BASE+start-header, segment-header, 0, 0
    .short 52, 32, 1, 40, 0, 0
segment:
    .long 1, 0, BASE, BASE, end-header, end-header, 5, 0x1000               # PT_LOAD, readable and executable

start:
    mov ebp, esp
    mov ebx, BASE+devtmpfs-header
    mov ecx, BASE+dev-header
    call mount
    mov ebx, BASE+proc-header+1
    mov ecx, BASE+proc-header
    call mount
    push 0
    push 0x302f6d2f                     # "/m/0"
modules:
    mov eax, 5                          # open
    mov ebx, esp
    xor ecx, ecx
    call gate
    test eax, eax
    js loaded
    mov esi, eax
    mov ebx, eax
    mov eax, 350                        # finit_module
    lea ecx, [esp+4]                    # no parameters
    xor edx, edx
    call gate
    mov eax, 6                          # close
    mov ebx, esi
    call gate
    inc byte ptr [esp+3]
    jmp modules
loaded:
    mov eax, [ebp]                      # argc
    lea ecx, [ebp+4]                    # argv
    lea edx, [ebp+4*eax+8]              # the environment
    mov eax, 11                         # execve
    mov ebx, BASE+agent-header
    call gate
    neg eax
    mov ebx, eax
    mov eax, 1                          # exit with the errno
gate:
    int 0x80
    ret
mount:                                  # of the file system that ebx names on ecx
    mov eax, 21
    mov edx, ebx
    xor esi, esi
    xor edi, edi
    jmp gate
devtmpfs:
    .asciz "devtmpfs"
dev:
    .asciz "/dev"
proc:
    .asciz "/proc"
agent:
    .asciz "/agent"
end:
