# Configures a tree whose packages are unpacked (run by nosa inside the sandbox, by the tree's own shell).
# Arguments: the packages that have a preinst.
set -eu

cp -a /run/nosa/dpkg/. /var/lib/dpkg/
finish() {
    code=$?
    # What scripts left behind ends with the sandbox; whose it was is told.
    for dir in /proc/[0-9]*; do
        [ "$dir" = /proc/1 ] || [ "$dir" = "/proc/$$" ] && continue
        read -r name 2> /dev/null < "$dir/comm" || continue
        package=$(tr '\0' '\n' 2> /dev/null < "$dir/environ" | sed -n 's/^DPKG_MAINTSCRIPT_PACKAGE=//p')
        echo "nosa: left running: ${package:-?} $name"
    done
    rm -f /usr/sbin/policy-rc.d
    rm -rf /var/lib/dpkg/updates/*
    rm -f /var/lib/dpkg/lock /var/lib/dpkg/lock-frontend /var/lib/dpkg/triggers/Lock
    cp -a /var/lib/dpkg/. /run/nosa/dpkg/
    exit "$code"
}
trap finish EXIT

# No service may start (Debian Policy 9.3.3, invoke-rc.d(8)).
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

# Accounts first: other scripts look users up. awk is an alternative that mawk's postinst sets.
first=
for package in base-passwd base-files libc6:amd64 libc6:arm64 mawk; do
    [ -e "/var/lib/dpkg/info/$package.list" ] && first="$first $package"
done
ldconfig
# shellcheck disable=SC2086
[ -z "$first" ] || dpkg --configure --force-depends --force-unsafe-io $first

for stem in "$@"; do
    name=${stem%%:*}
    echo "nosa: running preinst of $name"
    DPKG_MAINTSCRIPT_PACKAGE=$name DPKG_MAINTSCRIPT_ARCH=$(dpkg --print-architecture) DPKG_ROOT='' \
        DPKG_ADMINDIR=/var/lib/dpkg \
        "/var/lib/dpkg/info/$stem.preinst" install || {
        echo "nosa: preinst of $name ended with exit code $?" >&2
        exit 1
    }
done

dpkg --configure --pending --force-unsafe-io
