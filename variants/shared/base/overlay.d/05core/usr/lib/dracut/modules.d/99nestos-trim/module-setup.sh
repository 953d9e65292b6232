#!/bin/bash
# Last of all modules: what others brought and this initramfs does without. Every
# unit and every device event that is not there makes each boot shorter.

check() {
    return 255
}

depends() {
    echo nestos-root nestos-network
}

install() {
    local hooks="$initdir/usr/lib/dracut/hooks"

    # systemd mounts the root; nothing waits in dracut's own queue. Network comes
    # by coreos-enable-network.service, only when it is asked for.
    rm -f "$hooks"/cmdline/*-{parse-root,dhcp-root,networkd-config}.sh \
        "$hooks"/pre-udev/*-ifname-genrules.sh \
        "$hooks"/initqueue/settled/*-networkd-run.sh \
        "$hooks"/initqueue/timeout/*-rootfallback.sh
    rm -f "$initdir"/usr/lib/dracut/need-initqueue
    rm -f "$initdir"/usr/lib/systemd/system-generators/{dracut-rootfs-generator,systemd-gpt-auto-generator}
    $SYSTEMCTL -q --root "$initdir" disable systemd-networkd.service systemd-networkd.socket \
        systemd-network-generator.service systemd-networkd-wait-online.service
    rm -f "$initdir"/etc/systemd/system/*/systemd-network*.s*

    # Devices that no driver in here is for: half of all events are consoles,
    # ACPI nodes, and drivers that are built in.
    mkdir -p "$initdir/etc/systemd/system/systemd-udev-trigger.service.d"
    cat > "$initdir/etc/systemd/system/systemd-udev-trigger.service.d/nestos.conf" << 'EOF'
[Service]
ExecStart=
ExecStart=-udevadm trigger --type=devices --action=add --prioritized-subsystem=block,virtio,pci --subsystem-nomatch=tty --subsystem-nomatch=vc --subsystem-nomatch=acpi --subsystem-nomatch=wakeup --subsystem-nomatch=workqueue --subsystem-nomatch=mem --subsystem-nomatch=memory --subsystem-nomatch=cpu --subsystem-nomatch=event_source --subsystem-nomatch=thermal --subsystem-nomatch=graphics --subsystem-nomatch=leds --subsystem-nomatch=vtconsole --subsystem-nomatch=bdi --subsystem-nomatch=clocksource --subsystem-nomatch=clockevents --subsystem-nomatch=machinecheck --subsystem-nomatch=powercap --subsystem-nomatch=rtc
EOF
}
