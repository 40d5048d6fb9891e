#!/bin/sh
# regenerate.sh BIN: writes the scheduled kernels (NAME.opt.mlir) that the vendor's open compiler makes of the NAME.mlir here.
# BIN is the folder with bishengir-compile of the Python wheel ascendnpu-ir 1.2.0 (Apache-2.0), unpacked: a wheel is a zip archive.
# 48 blocks: one per vector core; for kernels with a product the compiler makes them 24, one per cube core.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
for input in "$here"/v*_*.mlir; do
    case $input in *.opt.mlir) continue ;; esac
    # The last step, the vendor's closed back end, is not there: the compiler complains, and leaves its result.
    "$1/bishengir-compile" "$input" --enable-hfusion-compile=true --enable-hivm-compile=true --block-dim=48 \
        --target=Ascend910B2 --save-temps="$scratch/o" -o "$scratch/x.o" >"$scratch/log" 2>&1 || true
    mv "$scratch/o/module.hivm.opt.mlir" "${input%.mlir}.opt.mlir"
done
rm -r "$scratch"
