#!/bin/bash
# What Ignition needs beside its own module: the base configuration, the disk's
# preparation before it, kernel arguments, and a stand-in for SELinux.

check() {
    return 255
}

depends() {
    echo ignition
}

install() {
    inst_multiple cp e2fsck lsblk mkdir mount mv rm sed sgdisk sleep sync \
        systemctl tune2fs udevadm umount

    inst_simple "$moddir/00-core.ign" /usr/lib/ignition/base.d/00-core.ign

    # Ignition relabels for SELinux wherever it can; there is no policy.
    inst_simple "$moddir/setfiles" /usr/sbin/setfiles

    # Over the ignition module's own helper, which only says "not supported".
    rm -f "$initdir/usr/sbin/ignition-kargs-helper"
    inst_simple "$moddir/ignition-kargs-helper" /usr/sbin/ignition-kargs-helper

    inst_simple "$moddir/coreos-gpt-setup" /usr/sbin/coreos-gpt-setup
    inst_simple "$moddir/coreos-gpt-setup.service" "$systemdsystemunitdir/coreos-gpt-setup.service"
    mkdir -p "$initdir$systemdsystemunitdir/ignition-diskful.target.requires"
    ln_r "$systemdsystemunitdir/coreos-gpt-setup.service" \
        "$systemdsystemunitdir/ignition-diskful.target.requires/coreos-gpt-setup.service"

    inst_simple "$moddir/ignition-virtio-dump-journal" /usr/sbin/ignition-virtio-dump-journal
    inst_simple "$moddir/ignition-virtio-dump-journal.service" \
        "$systemdsystemunitdir/ignition-virtio-dump-journal.service"
    mkdir -p "$initdir$systemdsystemunitdir/emergency.target.wants"
    ln_r "$systemdsystemunitdir/ignition-virtio-dump-journal.service" \
        "$systemdsystemunitdir/emergency.target.wants/ignition-virtio-dump-journal.service"
}
