#!/bin/bash
# Network in the initramfs, only when Ignition asks for it: most first boots have
# their configuration at hand, and no later boot needs it.

check() {
    return 255
}

depends() {
    echo systemd-networkd ignition
}

install() {
    inst_multiple ip modprobe rm sed systemctl tr
    inst_simple "$moddir/90-nestos.network" /usr/lib/systemd/network/90-nestos.network
    inst_simple "$moddir/networkd.conf" \
        /etc/systemd/system/systemd-networkd.service.d/nestos.conf
    inst_simple "$moddir/coreos-enable-network" /usr/sbin/coreos-enable-network
    inst_simple "$moddir/coreos-enable-network.service" \
        "$systemdsystemunitdir/coreos-enable-network.service"
    mkdir -p "$initdir$systemdsystemunitdir/ignition-complete.target.requires"
    ln_r "$systemdsystemunitdir/coreos-enable-network.service" \
        "$systemdsystemunitdir/ignition-complete.target.requires/coreos-enable-network.service"
}
