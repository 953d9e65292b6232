#!/bin/bash
## kola:
##   description: The deployment is whole, /usr is read-only, /etc can be written and stays.
##   tags: "platform-independent ostree"
##   timeoutMin: 30
set -euo pipefail
# shellcheck source=../../data/lib.sh
. "$KOLA_EXT_DATA/lib.sh"

case "${AUTOPKGTEST_REBOOT_MARK:-}" in
    "")
        [ -e /run/ostree-booted ] || fatal "/run/ostree-booted is not there"
        ostree admin status
        booted=$(ostree admin status | sed -n 's/^\* \([^ ]*\) \([0-9a-f]\{64\}\)\.[0-9]*.*/\1 \2/p')
        [ -n "$booted" ] || fatal "ostree admin status marks no deployment as booted"
        read -r stateroot commit <<< "$booted"
        equals "stateroot" nestos "$stateroot"
        grep -q "ostree=/ostree/boot\.[01]/$stateroot/" /proc/cmdline || fatal "no ostree= for $stateroot on the kernel command line"

        # As os-release says.
        . /usr/lib/os-release
        equals "version of the commit" "$OSTREE_VERSION" \
            "$(ostree show --print-metadata-key=version "$commit" | tr -d "'")"

        # Content and checksums of everything that is deployed.
        ostree fsck --quiet | tail -n 1
        ok "ostree fsck"

        for path in /usr /usr/bin /usr/lib; do
            if touch "$path/kola-write-test" 2> /dev/null; then
                rm -f "$path/kola-write-test"
                fatal "$path can be written"
            fi
        done
        [[ "$(mount_options /usr)" == *,ro,* ]] || fatal "/usr is not mounted read-only"
        [[ "$(mount_options /sysroot)" == *,ro,* ]] || fatal "/sysroot is not mounted read-only"
        [[ "$(mount_options /boot)" == *,ro,* ]] || fatal "/boot is not mounted read-only"
        ok "/usr, /sysroot and /boot are read-only"

        echo kola > /etc/kola-etc
        echo kola > /var/kola-var
        ostree admin config-diff | grep -q '^A  *kola-etc$' || fatal "config-diff does not show the new file in /etc"
        ok "/etc can be written, and ostree sees it"
        /tmp/autopkgtest-reboot again
        ;;
    again)
        equals "file in /etc after a restart" kola "$(cat /etc/kola-etc)"
        equals "file in /var after a restart" kola "$(cat /var/kola-var)"
        ;;
    *)
        fatal "unexpected mark: $AUTOPKGTEST_REBOOT_MARK"
        ;;
esac
