#!/bin/sh
# Starts a unit, waits until it ended or its test asks for a reboot, and prints what systemd knows of it.
# Run as root by nosa over SSH: run-unit.sh UNIT
set -eu
unit=$1
rm -f /run/kolet-reboot /run/kolet-reboot-ack
systemctl start --no-block "$unit"
pause=0.3
while :; do
    if [ -e /run/kolet-reboot ]; then
        printf 'Reboot=%s\n' "$(cat /run/kolet-reboot)"
        exit 0
    fi
    state=$(systemctl show --property=ActiveState,SubState,Result,ExecMainCode,ExecMainStatus "$unit")
    case $state in
        *SubState=exited* | *ActiveState=failed* | *SubState=dead*)
            # A unit that was queued a moment ago is dead, too, before it starts.
            if [ -n "$(systemctl list-jobs --no-legend "$unit")" ]; then
                sleep 0.2
                continue
            fi
            printf '%s\n' "$state"
            exit 0
            ;;
    esac
    sleep $pause
    case $pause in 0.3) pause=0.6 ;; 0.6) pause=1 ;; esac
done
