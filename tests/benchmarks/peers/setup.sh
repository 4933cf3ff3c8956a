#!/bin/sh
# setup.sh torchgeo|terratorch|geoai|rastervision|otb: what test_peers.py compares s2cd with.
# Each has an environment of its own, bench/env/NAME; Orfeo ToolBox is Debian's, and takes root.
# Run from the top of the tree, after `make setup`. torch: as in the Makefile, but always for CPUs.
set -eu
case "${1:-}" in
  torchgeo) packages="torchgeo==0.8.1 requests" ;; # which it imports and does not ask for
  terratorch) packages="terratorch==1.2.11" ;;
  geoai) packages="geoai-py==0.40.1" ;; # the last for Python 3.11
  rastervision) packages="rastervision_pytorch_learner==0.31.1" ;;
  otb) exec apt-get install --yes --no-install-recommends otb-bin ;;
  *) sed -n 's/^# //p' "$0" >&2; exit 2 ;;
esac
uv="${UV:-.venv/bin/uv}"
folder="bench/env/$1"
export UV_FIND_LINKS="${PIP_FIND_LINKS:-}"
test -n "$UV_FIND_LINKS" || export UV_TORCH_BACKEND=cpu
"$uv" venv --quiet --allow-existing --python 3.11 "$folder"
"$uv" pip install --python "$folder/bin/python" "torch==2.13.0" $packages
