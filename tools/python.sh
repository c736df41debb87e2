# Sourced by the launch scripts beside it: which interpreter they start.
# PYTHON; else that of the activated environment; else .venv of this checkout.
python=${PYTHON:-python}
own=$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/python
if [[ -z ${PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-} && -x $own ]]; then python=$own; fi
