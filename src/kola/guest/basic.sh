#!/bin/sh
# nosa's own checks of a booted machine. Prints `PASS name` or `FAIL name: why` for each.
# Run as root by nosa over SSH.
pass() { echo "PASS $1"; }
fail() { echo "FAIL $1: $2"; }

# Booted from an OSTree deployment.
if [ -e /run/ostree-booted ]; then pass OSTree; else fail OSTree "/run/ostree-booted is missing"; fi

# /usr cannot be written.
if touch /usr/nosa-was-here 2> /dev/null; then
    rm -f /usr/nosa-was-here
    fail ReadOnlyUsr "a file could be made in /usr"
else
    pass ReadOnlyUsr
fi

# The machine has an id of its own, and D-Bus, where it tells one, tells the same.
id=$(cat /etc/machine-id 2> /dev/null)
bus=$(busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus.Peer GetMachineId 2> /dev/null | cut -d'"' -f2)
if ! printf '%s' "$id" | grep -Eqx '[0-9a-f]{32}' || [ -z "$(printf '%s' "$id" | tr -d 0)" ]; then
    fail MachineID "/etc/machine-id holds \"$id\""
elif [ -n "$bus" ] && [ "$bus" != "$id" ]; then
    fail MachineID "/etc/machine-id holds $id, but D-Bus tells $bus"
else
    pass MachineID
fi

# The system came up and no service failed.
failed=$(systemctl list-units --failed --plain --no-legend | grep -v '^kola-runext' | cut -d' ' -f1 | tr '\n' ' ')
if [ -n "$failed" ]; then fail ServicesActive "failed: $failed"; else pass ServicesActive; fi
for unit in multi-user.target systemd-journald.service dbus.service; do
    systemctl -q is-active "$unit" || fail ServicesActive "$unit is not active"
done

# The root file system fills its partition, and the partition its disk (less than 2 MiB is left for the backup GPT).
source=$(findmnt -no SOURCE /sysroot 2> /dev/null || findmnt -no SOURCE /)
source=${source%%\[*}
part=/sys/class/block/$(basename "$(readlink -f "$source")")
disk=$(dirname "$(readlink -f "$part")")
if [ -r "$part/start" ] && [ -r "$disk/size" ]; then
    free=$(($(cat "$disk/size") - $(cat "$part/start") - $(cat "$part/size")))
    size=$(($(cat "$part/size") / 2))
    total=$(df -k --output=size "$(findmnt -no TARGET "$source" | head -n 1)" | tail -n 1)
    if [ "$free" -gt 4096 ]; then
        fail RootGrown "$free sectors of the disk are unused"
    elif [ "$total" -lt $((size * 85 / 100)) ]; then
        fail RootGrown "the file system has $total KiB of the partition's $size"
    else
        pass RootGrown
    fi
else
    fail RootGrown "$source is no partition"
fi

# Ignition ran on the first boot, and the flag that made it run is gone.
if ! journalctl -q -t ignition -o cat -n 1 | grep -q .; then
    fail IgnitionOnce "the journal holds nothing of Ignition"
elif [ -e /boot/ignition.firstboot ]; then
    fail IgnitionOnce "/boot/ignition.firstboot is still there"
else
    pass IgnitionOnce
fi

# An ordinary user may look at the system over D-Bus, and not stop units.
if ! runuser -u nobody -- busctl --no-pager status org.freedesktop.systemd1 > /dev/null 2>&1; then
    fail DbusPerms "an ordinary user cannot ask systemd"
elif runuser -u nobody -- busctl --no-pager call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
    org.freedesktop.systemd1.Manager RestartUnit ss systemd-journald.service replace > /dev/null 2>&1; then
    fail DbusPerms "an ordinary user could restart a service"
else
    pass DbusPerms
fi

# Accounts can be made and removed.
if useradd --create-home nosatest 2> /run/nosa-useradd && [ -d "$(getent passwd nosatest | cut -d: -f6)" ]; then
    pass UserAdd
else
    fail UserAdd "$(tail -n 1 /run/nosa-useradd)"
fi
userdel --remove nosatest > /dev/null 2>&1
rm -f /run/nosa-useradd
exit 0
