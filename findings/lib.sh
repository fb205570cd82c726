# Sourced by every script of this folder. Gives each one a temporary folder
# ($WORK, removed at exit) and two ways to get exactly the packages it names:
#
#   python_with 'torch==2.15.0' 'numpy==2.3.5'
#       sets $PYTHON to the interpreter of a virtual environment with them;
#   cargo_with 'half = "=2.7.1"' 'ndarray = "=0.16.1"' <<'RS' … RS
#       builds the main.rs on standard input against them and sets $PROGRAM to
#       the binary and $PROJECT to its folder.
#
# If FINDINGS_VENV_CACHE names a folder, environments and built crates are kept
# there and shared between scripts; else both live in $WORK. PyTorch, which is
# several gigabytes, is installed once a version and laid under the
# environments that name it.

# If FINDINGS_PREPARE is set, packages are installed and crates are built, and
# nothing is run: $PYTHON and $PROGRAM do nothing.

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
FINDINGS_CACHE=${FINDINGS_VENV_CACHE:-$WORK}
mkdir -p "$FINDINGS_CACHE"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONWARNINGS=ignore PYTHONDONTWRITEBYTECODE=1
export PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1
unset PYTHONPATH CUDA_VISIBLE_DEVICES

# changed TEXT: the behavior is no longer as the script states.
changed() {
    echo "changed: $*" >&2
    exit 1
}

# environment FOLDER BASE REQUIREMENT...: an environment with the requirements,
# over that in BASE if it is not empty.
environment() {
    local folder=$1 base=$2
    shift 2
    (
        flock 9
        [ -e "$folder/complete" ] && exit 0
        rm -rf "$folder"
        python3 -m venv --without-pip "$folder"
        if [ -n "$base" ]; then
            "$base/bin/python" -c 'import site; print(site.getsitepackages()[0])' \
                >"$("$folder/bin/python" -c 'import site; print(site.getsitepackages()[0])')/base.pth"
        fi
        # The pip of the caller: one of its own for every environment costs more time than most packages.
        install_into "$folder/bin/python" "$@"
        touch "$folder/complete"
    ) 9>"$folder.lock"
}

# install_into INTERPRETER ARGUMENT...: what `pip install` does, for another interpreter.
install_into() {
    local interpreter=$1
    shift
    python3 -m pip --python "$interpreter" install --quiet "$@" >&2
}

# python_with REQUIREMENT...
python_with() {
    local requirement torch='' base='' key
    for requirement in "$@"; do
        case $requirement in
        torch==*) torch=$requirement ;;
        *==* | *@*) ;;
        *) changed "requirement without a version: $requirement" ;;
        esac
    done
    if [ -n "$torch" ]; then
        base=$FINDINGS_CACHE/$torch
        environment "$base" '' "$torch"
    fi
    key=$(printf '%s\n' "$@" | sort | sha256sum | cut -c1-16)
    environment "$FINDINGS_CACHE/python-$key" "$base" "$@"
    PYTHON=${FINDINGS_PREPARE:+true}
    PYTHON=${PYTHON:-$FINDINGS_CACHE/python-$key/bin/python}
}

# cargo_with DEPENDENCY... <main.rs
cargo_with() {
    local name
    name=$(basename "$0" .sh)
    PROJECT=$WORK/$name
    mkdir -p "$PROJECT/src"
    cat >"$PROJECT/src/main.rs"
    {
        printf '[package]\nname = "%s"\nversion = "0.0.0"\nedition = "2024"\n\n[workspace]\n' "$name"
        printf '\n[profile.dev]\ndebug = false\nincremental = false\n\n[dependencies]\n'
        printf '%s\n' "$@"
    } >"$PROJECT/Cargo.toml"
    CARGO_TARGET_DIR=$FINDINGS_CACHE/target cargo build --quiet --manifest-path "$PROJECT/Cargo.toml" >&2
    PROGRAM=${FINDINGS_PREPARE:+true}
    PROGRAM=${PROGRAM:-$FINDINGS_CACHE/target/debug/$name}
}
