#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bundle.sh PYTHON FOLDER [ARCH SUITE]: ghesrace, and what Debian lacks or has too old, into FOLDER.
# The rest (psutil, prometheus-client, bcrypt, yaml, rich) comes from the system's packages. Without
# ARCH (amd64, arm64) and SUITE (bookworm, trixie) it is for this host. Two runs make equal files.
set -eu
python=$1 folder=$2 arch=${3:-native} suite=${4:-}
case $suite in
'') pythons='' ;;
bookworm) pythons=3.11 ;;
trixie) pythons=3.13 ;;
*) exit 2 ;;
esac
case $arch in
native) wheels='' compile=always ;;
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) exit 2 ;;
esac
if [ "$arch" != native ]; then
    wheels="--only-binary=:all: --implementation=cp --python-version=$pythons"
    for tag in manylinux_2_28 manylinux_2_27 manylinux2014; do
        wheels="$wheels --platform=${tag}_$machine"
    done
    compile=never
fi
rm -rf "$folder"
# shellcheck disable=SC2086
"$python" -m pip install --quiet --no-compile --require-hashes --target "$folder" $wheels \
    -r packaging/bundle.txt
rm -rf build/lib build/lib.* build/bdist.*  # a module that was moved would be shipped twice
GHESRACE_COMPILE=$compile "$python" -m pip install --quiet --no-compile --no-deps \
    --build-constraint packaging/build.txt --target "$folder" --upgrade .
[ "$arch" = native ] || "$python" -m lab.kernels.extensions "$folder" "$arch" "$suite"

# What nobody runs: tests, headers, builders of others' packages, stubs.
rm -rf "$folder/bin" "$folder/pyarrow/include" "$folder/pyarrow/src" "$folder/numpy/_core/include" \
    "$folder/numpy/_core/lib" "$folder/numpy/f2py" "$folder/numpy/distutils" "$folder/numpy/_pyinstaller"
find "$folder" -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +
find "$folder" \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' -o -name '*.a' \) \
    ! -path "$folder/ghesrace/*" -delete
rm -f "$folder"/numpy/_core/_simd.*.so "$folder"/numpy/_core/*_tests.*.so
# Parts of Arrow that no command imports (a survey writes Parquet, whose library is linked anyway).
# What libarrow_python is linked with stays; its libraries' other names are copies.
for part in acero azurefs csv dataset dataset_orc dataset_parquet dataset_parquet_encryption feather \
    flight gcsfs hdfs json orc parquet_encryption pyarrow_cpp_tests s3fs substrait; do
    rm -f "$folder"/pyarrow/_$part.*.so
done
for part in libarrow_flight libarrow_s3 libarrow_python_flight libarrow_python_parquet_encryption; do
    rm -f "$folder/pyarrow/$part".so*
done
rm -f "$folder"/pyarrow/libarrow_python.so "$folder"/pyarrow/libarrow_python.so.*.*
# What tells where and when it was installed.
rm -f "$folder"/*.dist-info/RECORD "$folder"/*.dist-info/INSTALLER "$folder"/*.dist-info/REQUESTED \
    "$folder"/*.dist-info/direct_url.json
# Not binutils' strip: it moves what auditwheel laid into the wheels' libraries, and ld.so refuses them.
find "$folder" -name '*.so*' -type f -exec chmod 644 {} + -exec eu-strip {} +
[ "$arch" = native ] || exit 0
"$python" -I -B -c "import importlib, pkgutil, sys
sys.path.insert(0, '$folder')
import ghesrace
from ghesrace import compiled
for module in pkgutil.walk_packages(ghesrace.__path__, 'ghesrace.'):
    try:
        module.name.endswith('__main__') or importlib.import_module(module.name)
    except ModuleNotFoundError as error:  # one of the system's packages, which a build host may lack
        if error.name.partition('.')[0] in ('ghesrace', 'numpy', 'pyarrow', 'msgspec'):
            raise
sys.exit(bool(compiled.stale() or compiled.missing()))"
