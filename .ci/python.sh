# An environment for Python of its own. To be sourced.

# make_python FOLDER PACKAGE...: makes FOLDER/venv with these packages; fails with what to install.
make_python() {
    local folder="$1" python="$1/venv/bin/python"
    shift
    if ! python3 -m venv "$folder/venv" >"$folder/venv.log" 2>&1; then
        { apt-get update && apt-get install -y python3-venv; } >"$folder/apt.log" 2>&1 || fail "python3 -m venv does not work: install python3-venv"
        python3 -m venv "$folder/venv" >"$folder/venv.log" 2>&1 || fail "python3 -m venv does not work"
    fi
    "$python" -m pip install --quiet --retries 10 --timeout 60 "$@" >"$folder/pip.log" 2>&1 || fail "$* could not be installed"
}
