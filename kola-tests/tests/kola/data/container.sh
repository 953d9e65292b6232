# shellcheck shell=bash
# make_rootfs DIR: the least root filesystem that runs sh and cat.
make_rootfs() {
    local dir=$1 program library
    mkdir -p "$dir"/{bin,etc,proc,sys,dev,tmp}
    for program in /usr/bin/dash /usr/bin/cat; do
        cp "$program" "$dir/bin/"
        while read -r library; do
            mkdir -p "$dir/$(dirname "$library")"
            cp -L "$library" "$dir/$library"
        done < <(ldd "$program" | grep -o '/[^ ]*')
    done
    ln -s dash "$dir/bin/sh"
}
