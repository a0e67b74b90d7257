# Completion of socketcall for bash, written by tools/interface.py from the parsers: do not change it by hand.
_socketcall() {
    local word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]} command= words= at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
        --) COMPREPLY=($(compgen -f -- "$word")); return ;;
        -*) ;;
        *) command=${COMP_WORDS[at]}; break ;;
        esac
    done
    if [ -z "$command" ]; then
        COMPREPLY=($(compgen -W 'doctor check behaviours capture sweep agent record diff matrix views target --help --version' -- "$word")); return
    fi
    case $command:$last in
        agent:-o|agent:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
        capture:--addr) COMPREPLY=(); return ;;
        capture:--color) COMPREPLY=($(compgen -W 'auto always never' -- "$word")); return ;;
        capture:--compare) COMPREPLY=($(compgen -f -- "$word")); return ;;
        capture:--errno) COMPREPLY=(); return ;;
        capture:--fd) COMPREPLY=(); return ;;
        capture:--format) COMPREPLY=($(compgen -W 'text jsonl html' -- "$word")); return ;;
        capture:--inject) COMPREPLY=(); return ;;
        capture:--port) COMPREPLY=(); return ;;
        capture:--summary-of) COMPREPLY=($(compgen -f -- "$word")); return ;;
        capture:-P|capture:--path) COMPREPLY=($(compgen -f -- "$word")); return ;;
        capture:-e) COMPREPLY=(); return ;;
        capture:-o|capture:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
        capture:-p|capture:--pid) COMPREPLY=(); return ;;
        capture:-s) COMPREPLY=(); return ;;
        check:--boot) COMPREPLY=(); return ;;
        check:--caller) COMPREPLY=($(compgen -W 'python agent' -- "$word")); return ;;
        check:--case) COMPREPLY=(); return ;;
        check:--deadline) COMPREPLY=(); return ;;
        check:--evidence) COMPREPLY=($(compgen -W 'all failing' -- "$word")); return ;;
        check:--expect) COMPREPLY=($(compgen -f -- "$word")); return ;;
        check:--gate) COMPREPLY=($(compgen -W 'int80 vdso' -- "$word")); return ;;
        check:--implementation) COMPREPLY=(); return ;;
        check:--isolation) COMPREPLY=($(compgen -W 'full net none' -- "$word")); return ;;
        check:--only) COMPREPLY=($(compgen -W 'abi implementation' -- "$word")); return ;;
        check:--reference) COMPREPLY=(); return ;;
        check:--report) COMPREPLY=($(compgen -d -- "$word")); return ;;
        check:--require) COMPREPLY=($(compgen -f -- "$word")); return ;;
        check:--route) COMPREPLY=($(compgen -W 'socketcall direct' -- "$word")); return ;;
        check:--seed) COMPREPLY=(); return ;;
        check:--shard) COMPREPLY=(); return ;;
        check:--stream) COMPREPLY=(); return ;;
        check:--tests) COMPREPLY=($(compgen -d -- "$word")); return ;;
        check:--via) COMPREPLY=(); return ;;
        check:--via-tty) COMPREPLY=($(compgen -f -- "$word")); return ;;
        check:--write-expect) COMPREPLY=($(compgen -f -- "$word")); return ;;
        check:-n|check:--workers) COMPREPLY=(); return ;;
        matrix:-o|matrix:--output) COMPREPLY=($(compgen -d -- "$word")); return ;;
        record:--case) COMPREPLY=(); return ;;
        record:--form) COMPREPLY=($(compgen -W 'c elf' -- "$word")); return ;;
        record:--isolation) COMPREPLY=($(compgen -W 'full net none' -- "$word")); return ;;
        record:--only) COMPREPLY=($(compgen -W 'abi implementation' -- "$word")); return ;;
        record:--route) COMPREPLY=($(compgen -W 'socketcall direct' -- "$word")); return ;;
        record:--tests) COMPREPLY=($(compgen -d -- "$word")); return ;;
        record:-o|record:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
        sweep:--gate) COMPREPLY=($(compgen -W 'int80 vdso' -- "$word")); return ;;
        sweep:--isolation) COMPREPLY=($(compgen -W 'full net none' -- "$word")); return ;;
        sweep:--range) COMPREPLY=(); return ;;
        sweep:--reference) COMPREPLY=(); return ;;
        sweep:--route) COMPREPLY=($(compgen -W 'socketcall direct' -- "$word")); return ;;
        sweep:--state) COMPREPLY=($(compgen -f -- "$word")); return ;;
        sweep:-n|sweep:--workers) COMPREPLY=(); return ;;
        sweep:-o|sweep:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
    case $command in
        doctor) words='--help -h' ;;
        check) words='--boot --caller --case --deadline --evidence --expect --fail-fast --gate --help --implementation --isolation --list --only --reference --report --require --route --seed --shard --stream --tests --via --via-tty --workers --write-expect -h -n' ;;
        behaviours) words='--help --json --register -h' ;;
        capture) words='--addr --brief --color --compare --count --errno --fd --follow-wire --format --help --inject --output --path --pid --port --raw --stack-trace --summary-of --tree -P -T -Z -c -e -f -h -k -o -p -r -s -t -y -z' ;;
        sweep) words='--gate --help --isolation --output --quiet --range --reference --route --state --workers -h -n -o families operations ports types' ;;
        agent) words='--help --output -h -o' ;;
        record) words='--case --form --help --isolation --only --output --route --tests -h -o' ;;
        diff) words='--help --json -h' ;;
        matrix) words='--help --output -h -o' ;;
        views) words='--help -h' ;;
        target) words='--help -h build clean list run' ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))
}
complete -F _socketcall socketcall
