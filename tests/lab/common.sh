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

# Test whether process $1 runs program $2. (A zombie has a name but no command line.)
is_running() {
    case " $(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline")" in
        *[\ /]"$2 "*) return 0 ;;
    esac
    return 1
}
