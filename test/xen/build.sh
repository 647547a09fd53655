#!/bin/bash
# Makes what the lab boots, from Debian 12 packages of this machine's own apt sources, once: prints the directory.
# Cached by the hash of this file, of Debian's release and of the node it copies. See shared/xen-lab.md for every choice.
#   xen          the hypervisor, uncompressed (QEMU loads it by multiboot)
#   vmlinuz      one kernel for all domains
#   system.cpio  the root of dom0 and of the driver domain: xl, both xenstoreds, iproute2, ethtool, node
#   guests.cpio  what only dom0 has: /guests with the kernel and the initramfs of the driver domain and of the clients
set -euo pipefail

XEN=4.17
NODE=${NODE:-$(command -v node)}
INCLUDE=bash,coreutils,mount,iproute2,iputils-ping,ethtool,bridge-utils,nftables,kmod,busybox-static,xen-utils-$XEN,xenstore-utils,procps
DOM0_MODULES='xen-evtchn xenfs xen-privcmd xen-gntdev xen-gntalloc virtio_pci virtio_console'
NICDOM_MODULES='xen-netback xen-netfront bridge 8021q dummy veth tun nf_tables nft_ct nf_conntrack_bridge br_netfilter sch_ingress'

. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] || { echo "the lab is made of Debian 12 packages; this is ${PRETTY_NAME:-unknown}" >&2; exit 3; }
for program in mmdebstrap cpio lz4 depmod qemu-system-x86_64; do
  command -v "$program" >/dev/null || { echo "$program is missing; see test/xen/packages.txt" >&2; exit 3; }
done
key=$({ cat "$0"; "$NODE" --version; echo "$VERSION_CODENAME"; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vifd-xen-lab
out=$cache/$key
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
[ -e "$out/complete" ] && { echo "$out"; exit 0; }
[ "$(id -u)" = 0 ] || { echo 'the lab is built as root (mmdebstrap)' >&2; exit 3; }

rm -rf "$out"
mkdir -p "$out"
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
exec 3>&1 >"$out/build.log" 2>&1
trap 'echo "build.sh failed at line $LINENO; see $out/build.log" >&3; tail -5 "$out/build.log" >&3' ERR

sources() {
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sort -u
}

# One package's files, without its dependencies and its scripts.
unpack() {
  (cd "$work" && apt-get download "$1" && dpkg-deb -x "$1"_*.deb "$2")
}

pack() {
  (cd "$1" && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >"$2"
}

# The module files of these modules and of all they need, into another tree, with a fresh index.
modules() {
  local into=$1 file
  shift
  for module in "$@"; do
    modprobe -d "$work/linux" -S "$release" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
  done | sort -u | while read -r file; do install -D -m 644 "$file" "$into/usr/lib/${file#*/lib/}"; done
  cp "$work/linux/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$into/usr/lib/modules/$release/"
  depmod -b "$into" "$release"
}

unpack "xen-hypervisor-$XEN-amd64" xen
zcat "$work"/xen/boot/xen-"$XEN"-amd64.gz >"$out/xen"
image=$(apt-cache depends --no-recommends --no-suggests linux-image-amd64 | awk '$1 == "Depends:" { print $2; exit }')
unpack "$image" linux
release=${image#linux-image-}
cp "$work/linux/boot/vmlinuz-$release" "$out/vmlinuz"
depmod -b "$work/linux" "$release"

root=$work/root
sources | mmdebstrap --variant=essential --include="$INCLUDE" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  "$VERSION_CODENAME" "$root" -
(cd "$root" && rm -rf boot/* var/cache/* var/lib/{apt,dpkg} usr/share/{doc,man,locale,i18n,zoneinfo,perl,perl5,python3,info,common-licenses} \
  usr/lib/python3* usr/lib/x86_64-linux-gnu/perl* usr/lib/x86_64-linux-gnu/gconv usr/bin/{perl*,python3*,gdb*} \
  usr/lib/xen-*/{boot,lib/python} usr/lib/grub* usr/lib/debug usr/lib/udev/hwdb* usr/sbin/grub*)
modules "$root" $DOM0_MODULES $NICDOM_MODULES
# The very node that runs the tests, with the libraries it loads.
install -D -m 755 "$(readlink -f "$NODE")" "$root/usr/bin/node"
ldd "$root/usr/bin/node" | grep -o '/[^ ]*' | while read -r file; do
  [ -e "$root$file" ] || install -D -m 755 "$(readlink -f "$file")" "$root$file"
done
mkdir -p "$root"/{proc,sys,dev,run,tmp,guests,lab}
pack "$root" "$out/system.cpio"

client=$work/client
mkdir -p "$client"/{bin,sbin,proc,sys,dev,usr/lib}
ln -s usr/lib "$client/lib"
cp "$root/bin/busybox" "$client/bin/busybox"
for name in sh mount ip ping cat echo sleep insmod modprobe dmesg ifconfig seq tr; do ln -s busybox "$client/bin/$name"; done
modules "$client" xen-netfront 8021q
pack "$client" "$work/client.cpio"

guests=$work/guests/guests
mkdir -p "$guests"
cp "$out/vmlinuz" "$guests/vmlinuz"
cp "$work/client.cpio" "$guests/client-base.cpio"
lz4 -l -q "$out/system.cpio" "$guests/nicdom-base.cpio.lz4"
pack "$work/guests" "$out/guests.cpio"
ls -l "$out" "$guests"
touch "$out/complete"
# Older builds are of no use any more.
find "$cache" -mindepth 1 -maxdepth 1 -type d ! -name "$key" -mmin +60 -exec rm -rf {} +
echo "$out" >&3
