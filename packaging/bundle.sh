#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bundle.sh PYTHON FOLDER: ghesrace, and what Debian lacks or has too old, into FOLDER.
# The rest (psutil, prometheus-client, bcrypt, yaml, rich) comes from the system's packages.
set -eu
python=$1 folder=$2
rm -rf "$folder"
"$python" -m pip install --quiet --no-compile --target "$folder" \
    'numpy>=1.26' 'pyarrow>=15' 'msgspec>=0.18'
"$python" -m pip install --quiet --no-compile --no-deps --no-build-isolation \
    --target "$folder" --upgrade .
rm -rf "$folder/bin" "$folder/pyarrow/tests" "$folder/pyarrow/include" "$folder/pyarrow/src" \
    "$folder/numpy/_core/include" "$folder/numpy/_core/lib" "$folder/numpy/f2py"
find "$folder" -type d -name tests -prune -exec rm -rf {} +
find "$folder" \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' -o -name '*.a' \) \
    -delete
# Parts of Arrow that nothing here loads; the last line proves it.
for part in flight s3 gandiva orc cuda; do
    rm -f "$folder"/pyarrow/libarrow_$part.so* "$folder"/pyarrow/lib$part.so* \
        "$folder"/pyarrow/_$part*.so
done
rm -f "$folder"/pyarrow/_pyarrow_cpp_tests*.so
"$python" -I -c "import sys; sys.path.insert(0, '$folder'); import ghesrace.sources.capture.file, ghesrace.service.config"
