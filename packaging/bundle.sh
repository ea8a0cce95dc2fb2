#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bundle.sh PYTHON FOLDER [arm64]: ghesrace, and what Debian lacks or has too old, into FOLDER.
# The rest (psutil, prometheus-client, bcrypt, yaml, rich) comes from the system's packages.
set -eu
python=$1 folder=$2 arch=${3:-native}
case $arch in
native) wheels='' compile=always ;;
arm64)
    wheels='--only-binary=:all: --implementation=cp --python-version=3.11'
    for tag in manylinux_2_28 manylinux_2_27 manylinux2014; do
        wheels="$wheels --platform=${tag}_aarch64"
    done
    compile=never
    ;;
*) exit 2 ;;
esac
rm -rf "$folder"
# shellcheck disable=SC2086
"$python" -m pip install --quiet --no-compile --target "$folder" $wheels \
    'numpy>=1.26' 'pyarrow>=15' 'msgspec>=0.18'
rm -rf build/lib build/lib.* build/bdist.*  # a module that was moved would be shipped twice
GHESRACE_COMPILE=$compile "$python" -m pip install --quiet --no-compile --no-deps \
    --target "$folder" --upgrade .
[ "$arch" = native ] || "$python" -m lab.kernels.extensions "$folder"
rm -rf "$folder/bin" "$folder/pyarrow/tests" "$folder/pyarrow/include" "$folder/pyarrow/src" \
    "$folder/numpy/_core/include" "$folder/numpy/_core/lib" "$folder/numpy/f2py"
find "$folder" -type d -name tests -prune -exec rm -rf {} +
find "$folder" \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' -o -name '*.a' \) \
    ! -path "$folder/ghesrace/*" -delete
# Parts of Arrow that nothing here loads; the last lines prove it.
for part in flight s3 gandiva orc cuda; do
    rm -f "$folder"/pyarrow/libarrow_$part.so* "$folder"/pyarrow/lib$part.so* \
        "$folder"/pyarrow/_$part*.so
done
rm -f "$folder"/pyarrow/_pyarrow_cpp_tests*.so
[ "$arch" = native ] || exit 0
"$python" -I -c "import sys; sys.path.insert(0, '$folder')
import ghesrace.sources.capture.file, ghesrace.service.config
from ghesrace import compiled
sys.exit(bool(compiled.stale() or compiled.missing()))"
