"""The shell code that measures a command and writes its benchmark file, as Snakemake does.

It runs in the rule's image, which need not contain Python. It needs a POSIX shell, `sleep` and
`mktemp`, and reads Linux's /proc. Memory and I/O are those of all processes of the command, sampled
twice a second (after a while, every five seconds); processor time and elapsed time are exact.
"""

from __future__ import annotations

import shlex
from typing import Any

# Snakemake's columns, in its order (snakemake/benchmark.py).
HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"

# Functions of the script. `_monitor` samples the processes below the shell $1 until it receives
# SIGTERM, and prints the maxima in kB. `_measure` runs `run`, and appends a row to `rows`.
FUNCTIONS = r"""
_monitor() {
    set +e
    read -r own _ </proc/self/stat
    seen=0 rss=0 vms=0 uss=0 pss=0 io_in=0 io_out=0 samples=0 nap=
    trap 'kill $nap 2>/dev/null; echo $seen $rss $vms $uss $pss $io_in $io_out; exit 0' TERM
    while :; do
        tree=" $1 " processes= grown=1
        for file in /proc/[0-9]*/stat; do
            { read -r line <"$file"; } 2>/dev/null || continue
            set -- "$1" "${line%% *}" ${line##*) }
            [ "$2" = "$own" ] || [ "$2" = "$1" ] || processes="$processes $2:$4:${23}"
        done
        while [ "$grown" ]; do
            grown=
            for process in $processes; do
                pid=${process%%:*} parent=${process#*:}
                case $tree in *" $pid "*) continue ;; esac
                case $tree in *" ${parent%%:*} "*) tree="$tree$pid " grown=1 ;; esac
            done
        done
        now_rss=0 now_vms=0 now_uss=0 now_pss=0 now_in=0 now_out=0
        for process in $processes; do
            pid=${process%%:*}
            case $tree in *" $pid "*) ;; *) continue ;; esac
            {
                while read -r name amount _; do
                    case $name in
                    Rss:)
                        seen=1 now_rss=$((now_rss + amount))
                        now_vms=$((now_vms + ${process##*:} / 1024))
                        ;;
                    Pss:) now_pss=$((now_pss + amount)) ;;
                    Private_*) now_uss=$((now_uss + amount)) ;;
                    esac
                done <"/proc/$pid/smaps_rollup"
                while read -r name amount; do
                    case $name in
                    read_bytes:) now_in=$((now_in + amount / 1024)) ;;
                    write_bytes:) now_out=$((now_out + amount / 1024)) ;;
                    esac
                done <"/proc/$pid/io"
            } 2>/dev/null
        done
        [ $now_rss -le $rss ] || rss=$now_rss
        [ $now_vms -le $vms ] || vms=$now_vms
        [ $now_uss -le $uss ] || uss=$now_uss
        [ $now_pss -le $pss ] || pss=$now_pss
        [ $now_in -le $io_in ] || io_in=$now_in
        [ $now_out -le $io_out ] || io_out=$now_out
        samples=$((samples + 1)) pause=0.5
        [ $samples -ge 5 ] || pause=0.1
        [ $samples -le 65 ] || pause=5
        sleep $pause &
        nap=$!
        wait $nap
    done
}
_now() {
    read -r now _ </proc/uptime
    now=$((${now%.*} * 100 + 1${now#*.} - 100))
    read -r line </proc/self/stat
    set -- ${line##*) }
    ticks=$((${14} + ${15}))
}
_decimal() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }
_megabytes() { _decimal $(($1 * 100 / 1024)); }
_elapsed() {
    case $1 in
    0) ;;
    1) printf '1 day, ' ;;
    *) printf '%d days, ' "$1" ;;
    esac
    printf '%d:%02d:%02d' $(($2 / 3600)) $(($2 / 60 % 60)) $(($2 % 60))
}
_measure() {
    read -r root _ </proc/self/stat
    sample=$(mktemp)
    _monitor "$root" >"$sample" 2>/dev/null &
    monitor=$!
    _now
    begin=$now ticks_before=$ticks
    run || code=$?
    _now
    elapsed=$((now - begin)) ticks=$((ticks - ticks_before))
    [ $elapsed -gt 0 ] || elapsed=1
    kill $monitor 2>/dev/null || :
    wait $monitor 2>/dev/null || :
    seen=0
    read -r seen rss vms uss pss io_in io_out <"$sample" || :
    rm -f "$sample"
    time=$(_elapsed $((elapsed / 8640000)) $((elapsed / 100 % 86400)))
    if [ "$seen" = 1 ]; then
        set -- "$(_megabytes $rss)" "$(_megabytes $vms)" "$(_megabytes $uss)" "$(_megabytes $pss)" \
            "$(_megabytes $io_in)" "$(_megabytes $io_out)" \
            "$(_decimal $((ticks * 10000 / elapsed)))" "$(_decimal $ticks)"
    else
        set -- NA NA NA NA NA NA NA NA
    fi
    rows="$rows$("$format" "$(_decimal $elapsed)" "$time" "$@")
"
}
_tsv() {
    printf '%s' "$1"
    shift
    printf '\t%s' "$@"
}
_json() {
    for value; do
        case $value in NA) value='"NA"' ;; *:*) value="\"$value\"" ;; esac
        set -- "$@" "$value"
        shift
    done
    printf '{"cpu_time": %s, "h:m:s": %s, "io_in": %s, "io_out": %s, ' "${10}" "$2" "$7" "$8"
    printf '"max_pss": %s, "max_rss": %s, "max_uss": %s, "max_vms": %s, ' "$6" "$3" "$5" "$4"
    printf '"mean_load": %s, "s": %s}' "$9" "$1"
}
"""


def measure_command(job: Any) -> str:
    """Return the code that runs the function `run` as often as the benchmark is repeated."""
    form = "_json" if str(job.benchmark).endswith(".jsonl") else "_tsv"
    count = job.benchmark_repeats or 1
    return (
        f"rows= repeat=0 format={form}\n"
        f'while [ $repeat -lt {count} ] && [ "$code" -eq 0 ]; do\n'
        "    _measure\n"
        "    repeat=$((repeat + 1))\n"
        "done\n"
    )


def write_command(job: Any) -> str:
    """Return the code that writes the rows that were measured to the benchmark file."""
    file = str(job.benchmark)
    header = "" if file.endswith(".jsonl") else f"printf '%s\\n' {shlex.quote(HEADER)}; "
    return f"{{ {header}printf '%s' \"$rows\"; }} >{shlex.quote(file)}\n"
