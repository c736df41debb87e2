#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of test.py]
# One process per GPU; where there is no GPU the processes meet over gloo on CPU.
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT.
# PYTHON names the interpreter; else the activated one, else that of .venv.
set -euo pipefail
if (($# < 3)); then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi
source "$(dirname "$0")/python.sh"
exec "$python" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$3" \
    "$(dirname "$0")/test.py" "$1" "$2" --launcher pytorch "${@:4}"
