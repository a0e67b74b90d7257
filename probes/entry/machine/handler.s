# Handles a signal in an agent: counts it, and notes which instruction is executed next (probes/testing/signals.py).
#
# The counter is the first word of the page after this code, the address of that instruction is 64 bytes behind it. The label
# gate is the entry instruction of sigreturn(2).
.intel_syntax noprefix
    call 1f
1:  pop ecx                             # sigreturn restores every register
    and ecx, -4096
    inc dword ptr [ecx+4096]
    mov eax, [esp+64]                   # of struct sigframe: pretcode, sig, and ip of struct sigcontext
    mov [ecx+4096+64], eax
    ret                                 # to the restorer: this struct sigframe begins with its address
restorer:
    pop eax                             # the number of the signal
    mov eax, 119                        # sigreturn
gate:
    int 0x80
