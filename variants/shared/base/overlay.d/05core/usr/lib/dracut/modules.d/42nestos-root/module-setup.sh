#!/bin/bash
# The root filesystem of an OSTree disk: found by label, made unique and grown on
# first boot, with the stateroot's /var ready before Ignition writes files.

check() {
    return 255
}

depends() {
    echo ostree ignition
}

install_unit() {
    inst_simple "$moddir/$1" "$systemdsystemunitdir/$1"
    mkdir -p "$initdir$systemdsystemunitdir/$2.requires"
    ln_r "$systemdsystemunitdir/$1" "$systemdsystemunitdir/$2.requires/$1"
}

install() {
    inst_multiple cut e2fsck install lsblk mount \
        partx resize2fs sfdisk touch tune2fs umount
    inst_multiple -o fsck fsck.ext4

    inst_simple "$moddir/nestos-root-generator" \
        "$systemdutildir/system-generators/nestos-root-generator"

    inst_simple "$moddir/ignition-ostree-root" /usr/sbin/ignition-ostree-root
    inst_simple "$moddir/ignition-ostree-var" /usr/sbin/ignition-ostree-var
    install_unit ignition-ostree-uuid-root.service ignition-diskful.target
    install_unit ignition-ostree-growfs.service ignition-diskful.target
    install_unit ignition-ostree-mount-var.service ignition-diskful.target
    install_unit ignition-ostree-populate-var.service ignition-diskful.target
}
