# shellcheck shell=sh
# Paths and functions for the scripts in this directory, which source it.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
# shellcheck disable=SC2034 # used by the scripts
state=$root/.state
# A user's PATH may lack the directories of docker.io and iptables.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

report() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { report "$*"; exit 1; }

may_be_root() { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif may_be_root; then
        sudo -n -- "$@"
    else
        die "root must run: $*  Run it as root, or allow sudo without a password, then try again"
    fi
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Install the missing ones of these Debian packages.
apt_install() {
    missing=
    for package in "$@"; do
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "there is no apt-get; install these packages:$missing"
    report "installing$missing"
    as_root apt-get -q -q update >/dev/null
    # shellcheck disable=SC2086 # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -q -y -o DPkg::Lock::Timeout=300 install $missing >/dev/null
}

# Print a digest of the sources of the core and of the plugin in directory $1.
digest_of_sources() {
    find "$root/swarm_runner" "$1" "$root/setup.cfg" -name '.*' -prune -o -name tests -prune -o \
        -type f ! -name '*.pyc' -exec cksum {} + | sort | cksum | cut -d ' ' -f 1
}

# Build the wheels of the core and of the plugin in directory $2 with Python $1, into directory $3.
# They are built from copies, because setuptools leaves a build directory in the source tree.
build_wheels() {
    copies=$(mktemp -d)
    mkdir "$copies/core" "$copies/plugin"
    for part in swarm_runner setup.cfg pyproject.toml README.md LICENSE; do
        cp -RL "$root/$part" "$copies/core"
    done
    for part in setup.cfg pyproject.toml README.md LICENSE; do
        cp -RL "$2/$part" "$copies/plugin"
    done
    for package in "$2"/*/__init__.py; do
        [ "$(basename "$(dirname "$package")")" = tests ] ||
            cp -RL "$(dirname "$package")" "$copies/plugin"
    done
    rm -rf "$3"
    status=0
    "$1" -m pip wheel --quiet --no-deps --wheel-dir "$3" "$copies/core" "$copies/plugin" || status=$?
    rm -rf "$copies"
    return "$status"
}

# Test whether process $1 runs program $2. (A zombie has a name but no command line.)
is_running() {
    case " $(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline")" in
        *[\ /]"$2 "*) return 0 ;;
    esac
    return 1
}
