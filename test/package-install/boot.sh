#!/bin/bash
# Becomes systemd in ROOT, inside namespaces that unshare made. SOCKET is a xenstore for it.
# usage: boot.sh ROOT SOCKET
set -euo pipefail
root=$1 socket=$2
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for directory in run tmp dev; do mount -t tmpfs tmpfs "$root/$directory"; done
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/run/xenstored"
touch "$root/run/xenstored/socket"
mount --bind "$socket" "$root/run/xenstored/socket"
exec env -i container=vifd-test PATH=/usr/sbin:/usr/bin chroot "$root" /usr/lib/systemd/systemd --show-status=no
