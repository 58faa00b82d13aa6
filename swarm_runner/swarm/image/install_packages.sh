#!/bin/sh
# install_packages.sh NAME PACKAGE...: install Debian packages while an image is built.
#
# NAME.ARCHITECTURE.lock lists the packages that a release was tested with, and their dependencies, as
# sha256sum writes them. They come from Debian's mirror or, if it has newer ones by now, from
# snapshot.debian.org. The environment says what to do:
#   PACKAGES=          install these; if they are not available, the newest, and say so
#   PACKAGES=locked    install these or nothing
#   PACKAGES=newest    install the newest
# /usr/local/share/swarm-runner/packages/NAME then says what was downloaded, in the same form.
set -eu

name=$1
shift
lock=$(dirname "$0")/$name.$(dpkg --print-architecture).lock
downloaded=/var/cache/apt/archives
list=/usr/local/share/swarm-runner/packages/$name

report() { echo "swarm-runner: $*"; }

# update CHECK: get the mirror's lists; CHECK is whether they may be out of date.
update() {
    apt-get -q -o "Acquire::Check-Valid-Until=$1" update
}

install() {
    # Python's caches are the same bytes in each build.
    DEBIAN_FRONTEND=noninteractive PYTHONHASHSEED=0 apt-get -q install -y --no-install-recommends \
        --allow-downgrades "$@"
}

# A file's name is PACKAGE_VERSION_ARCHITECTURE.deb, with %3a for the colon of the version.
locked() {
    sed -n 's/^[0-9a-f]*  \([^_]*\)_\([^_]*\)_.*/\1=\2/p' "$lock" | sed 's/%3a/:/'
}

add_snapshot() {
    archive=http://snapshot.debian.org/archive/debian/$(sed -n 's/^# snapshot: //p' "$lock")
    for suite in trixie sid; do
        echo "deb $archive $suite main"
    done >/etc/apt/sources.list.d/snapshot.list
    update false || true
}

install_locked() {
    update false # the lock has the hashes: old lists do no harm
    # shellcheck disable=SC2046 # one word for each package
    install --download-only $(locked) || {
        add_snapshot
        install --download-only $(locked)
    } || return 1
    write_list
    if grep -vxFf "$lock" "$list"; then
        report "these packages differ from $(basename "$lock")"
        return 1
    fi
    # shellcheck disable=SC2046
    install --no-download $(locked)
}

install_newest() {
    rm -f /etc/apt/sources.list.d/snapshot.list "$downloaded"/*.deb
    update "${CHECK_VALID_UNTIL:-true}"
    install --download-only "$@"
    write_list
    # A mirror's files are in a snapshot some hours after the date that they bear.
    latest=$(sed -n 's/^Date: \(.*\)/\1 + 6 hours/p' /var/lib/apt/lists/*InRelease |
        date -u -f - +%Y%m%dT%H%M%SZ | sort | tail -n 1)
    sed -i "1i # snapshot: $latest" "$list"
    install --no-download "$@"
}

write_list() {
    mkdir -p "$(dirname "$list")"
    (cd "$downloaded" && sha256sum -- *.deb) >"$list"
}

if [ "${PACKAGES:-}" = newest ]; then
    install_newest "$@"
elif [ ! -e "$lock" ]; then
    report "there is no $(basename "$lock"), which says what to install on this architecture"
    [ "${PACKAGES:-}" != locked ] || exit 1
    install_newest "$@"
elif ! install_locked; then
    report "the packages of $(basename "$lock") are not available here"
    [ "${PACKAGES:-}" != locked ] || exit 1
    report "installing the newest ones instead"
    install_newest "$@"
fi
apt-get clean
rm -rf /var/lib/apt/lists/* /etc/apt/sources.list.d/snapshot.list \
    /usr/share/doc /usr/share/locale /usr/share/man
