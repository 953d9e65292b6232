#!/bin/sh
# Waits until the machine has come up and prints the units that failed or hang.
# Run as root by nosa over SSH: base-checks.sh SECONDS
limit=$1
waited=0
while [ "$waited" -lt "$limit" ]; do
    state=$(systemctl is-system-running)
    case $state in
        initializing | starting) ;;
        *) [ -n "$(systemctl list-units --state=activating --plain --no-legend | grep -v '^kola-runext')" ] || break ;;
    esac
    sleep 1
    waited=$((waited + 1))
done
case $state in
    initializing | starting) echo "the system is still $state after $limit s" ;;
esac
systemctl list-units --failed --plain --no-legend | while read -r unit _; do
    case $unit in kola-runext*) continue ;; esac
    echo "unit $unit failed"
    journalctl -q -b -u "$unit" -o cat -n 5 | sed 's/^/    /'
done
systemctl list-units --state=activating --plain --no-legend | while read -r unit _; do
    case $unit in kola-runext*) continue ;; esac
    echo "unit $unit is stuck while starting"
done
exit 0
