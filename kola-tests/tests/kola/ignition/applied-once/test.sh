#!/bin/bash
## kola:
##   description: Ignition makes users, files and units on first boot, and never again.
##   tags: "platform-independent ignition"
##   timeoutMin: 20
#
# The second boot must find what a user changed in the meantime as it was left.
set -euo pipefail
# shellcheck source=../../data/lib.sh
. "$KOLA_EXT_DATA/lib.sh"

firstboot_karg() {
    grep -qw ignition.firstboot /proc/cmdline
}

case "${AUTOPKGTEST_REBOOT_MARK:-}" in
    "")
        firstboot_karg || fatal "no ignition.firstboot on the first boot's kernel command line"
        journalctl -b -u ignition-files.service -o cat | grep -q . \
            || fatal "the journal has no line of ignition-files.service"
        ok "Ignition ran"

        equals "content" "written once" "$(cat /etc/kola-ignition)"
        equals "mode of the file" 640 "$(stat -c %a /etc/kola-ignition)"
        equals "mode of the directory" 700 "$(stat -c %a /var/lib/kola-ignition)"
        equals "target of the link" /etc/kola-ignition "$(readlink /etc/kola-link)"
        equals "file below /opt" "below var" "$(cat /var/opt/kola-ignition)"
        equals "user" "4242 made by Ignition" "$(getent passwd kolauser | awk -F: '{ print $3, $5 }')"
        id -nG kolauser | grep -qw kolagroup || fatal "kolauser is not in kolagroup"
        [ -d "$(getent passwd kolauser | cut -d: -f6)" ] || fatal "kolauser has no home"
        systemctl is-active kola-ignition.service || fatal "the unit does not run"
        systemctl is-enabled kola-ignition.service || fatal "the unit is not enabled"

        # Not /boot itself: the service that removes the flag is part of the proof.
        for _ in $(seq 60); do
            [ -e /boot/ignition.firstboot ] || break
            sleep 1
        done
        [ ! -e /boot/ignition.firstboot ] || fatal "/boot/ignition.firstboot is still there"
        ok "the flag of the first boot is gone"

        echo "changed by the user" > /etc/kola-ignition
        userdel kolauser
        /tmp/autopkgtest-reboot second
        ;;
    second)
        ! firstboot_karg || fatal "the second boot has ignition.firstboot on its kernel command line"
        if journalctl -b -u ignition-files.service -u ignition-disks.service -o cat | grep -q .; then
            journalctl -b -u 'ignition-*' --no-pager >&2
            fatal "Ignition ran again"
        fi
        ok "Ignition did not run again"
        equals "content" "changed by the user" "$(cat /etc/kola-ignition)"
        ! getent passwd kolauser || fatal "kolauser is back"
        systemctl is-active kola-ignition.service || fatal "the unit does not run on the second boot"
        equals "runs of the unit" 2 "$(wc -l < /var/lib/kola-ignition/runs)"
        ;;
    *)
        fatal "unexpected mark: $AUTOPKGTEST_REBOOT_MARK"
        ;;
esac
