# shellcheck shell=sh
# Sourced by the scripts beside it: where things are, and how to do what only root may.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
# shellcheck disable=SC2034 # the scripts use it
state=$root/.state
# docker.io and iptables live where a user's PATH may not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

may_be_root() { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif may_be_root; then
        sudo -n -- "$@"
    else
        die "only root may run: $*  Run it yourself, or allow sudo without a password, and try again"
    fi
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Install those of the Debian packages that are missing.
apt_install() {
    missing=
    for package in "$@"; do
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "install these by hand, there is no apt-get here:$missing"
    say "installing$missing"
    as_root apt-get -q -q update >/dev/null
    # shellcheck disable=SC2086 # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -q -y -o DPkg::Lock::Timeout=300 install $missing >/dev/null
}

# Whether process $1 runs the program $2. (A zombie has a name, but no command line.)
runs() {
    case " $(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline")" in
        *[\ /]"$2 "*) return 0 ;;
    esac
    return 1
}
