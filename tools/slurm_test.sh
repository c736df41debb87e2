#!/usr/bin/env bash
# tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]
# GPUS (8) in all and GPUS_PER_NODE (8): one process each. CPU alone: GPUS is the
# number of processes, GRES= (empty) asks for no GPU. CPUS_PER_TASK, SRUN_ARGS.
# PYTHON names the interpreter; else the activated one, else that of .venv.
set -euo pipefail
if (($# < 4)); then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi
source "$(dirname "$0")/python.sh"
per_node=${GPUS_PER_NODE:-8}
gres=${GRES-gpu:$per_node}
# SRUN_ARGS holds several words on purpose.
# shellcheck disable=SC2086
exec srun --partition="$1" --job-name="$2" ${gres:+--gres="$gres"} \
    --ntasks="${GPUS:-8}" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$python" -u "$(dirname "$0")/test.py" "$3" "$4" \
    --launcher=slurm "${@:5}"
