#!/bin/sh
# autopkgtest's reboot protocol: hands the mark to nosa, waits for its word, and reboots.
# Called as autopkgtest-reboot-prepare it leaves the reboot itself to the test.
set -eu
rm -f /run/kolet-reboot-ack
mkfifo /run/kolet-reboot-ack
printf '%s' "${1:?a mark is needed}" > /run/kolet-reboot.new
mv /run/kolet-reboot.new /run/kolet-reboot
read -r _ < /run/kolet-reboot-ack || true
case ${0##*/} in
    *-prepare) ;;
    *)
        systemctl reboot
        # The test must not end before the machine does.
        sleep 600
        ;;
esac
