# Finds Python 3.11 or newer for the launchers; scripts/environment.py does the rest.
# usage: launch.sh LOCK SCRIPT [ARGUMENT ...]
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 2
for python in "$here/../.venv/bin/python" python3 python3.14 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" "$here/environment.py" "$@"
    fi
done
echo "$2: Python 3.11 or newer is needed, and neither python3 nor python3.11 to 3.14 is one" >&2
exit 2
