#!/bin/bash
# Makes what the lab boots, from Debian packages of this machine's own apt sources, once: prints the directory.
# usage: build.sh [bookworm|trixie]
# Cached by the hash of this file, of Debian's release and of the node it copies. See shared/xen-lab.md for every choice.
#   xen          the hypervisor, uncompressed (QEMU loads it by multiboot)
#   vmlinuz      one kernel for all domains
#   system.cpio  the root of dom0 and of the driver domain: xl, both xenstoreds, iproute2, ethtool, node
#   guests.cpio  what only dom0 has: /guests with the kernel and the initramfs of the driver domain and of the clients
# With trixie the driver domain is a whole Debian with systemd and apt, and system.cpio only dom0's:
#   nicdom.img   its root file system, as an installation leaves it; guests.cpio has an initramfs that boots it
set -euo pipefail

suite=${1:-bookworm}
NODE=${NODE:-$(command -v node)}
case $suite in bookworm) XEN=4.17 ;; trixie) XEN=4.20 ;; *) echo "no lab is made of $suite" >&2; exit 2 ;; esac
INCLUDE=bash,coreutils,mount,iproute2,iputils-ping,ethtool,bridge-utils,nftables,kmod,busybox-static,xen-utils-$XEN,xenstore-utils,procps
DOM0_MODULES='xen-evtchn xenfs xen-privcmd xen-gntdev xen-gntalloc virtio_pci virtio_console'
[ "$suite" = bookworm ] || DOM0_MODULES="$DOM0_MODULES virtio_blk xen-blkback"
NICDOM_INCLUDE=systemd-sysv,udev,kmod,iproute2,iputils-ping,ethtool,nodejs,procps
NICDOM_DISK_MODULES='xen-blkfront ext4 crc32c_generic'
NICDOM_MODULES='xen-netback xen-netfront bridge 8021q dummy veth tun nf_tables nft_meta_bridge nft_ct nft_masq nft_chain_nat nf_conntrack_bridge br_netfilter sch_ingress'

. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] || { echo "the lab is made on Debian 12; this is ${PRETTY_NAME:-unknown}" >&2; exit 3; }
for program in mmdebstrap cpio lz4 depmod mke2fs qemu-system-x86_64; do
  command -v "$program" >/dev/null || { echo "$program is missing; see test/xen/packages.txt" >&2; exit 3; }
done
key=$suite-$({ cat "$0"; "$NODE" --version; } | sha256sum | cut -c1-16)
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

# Debian as apt knows it on this machine, without any other source; another suite lies beside this one.
sources() {
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sort -u |
    if [ "$suite" = "$VERSION_CODENAME" ]; then cat; else sed -n "s/ $VERSION_CODENAME main\$/ $suite main/p"; fi
}

# An apt of its own, which has these sources only.
aptroot=$work/apt
mkdir -p "$aptroot/lists/partial" "$aptroot/cache/archives/partial"
sources | sed 's|^deb|deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]|' >"$aptroot/sources.list"
printf '%s;\n' "Dir::Etc::sourcelist \"$aptroot/sources.list\"" 'Dir::Etc::sourceparts "/dev/null"' \
  "Dir::State::lists \"$aptroot/lists\"" 'Dir::State::status "/dev/null"' "Dir::Cache \"$aptroot/cache\"" \
  'APT::Sandbox::User "root"' >"$aptroot/apt.conf"
APT_CONFIG=$aptroot/apt.conf apt-get -qq update

# One package's files, without its dependencies and its scripts.
unpack() {
  (cd "$work" && APT_CONFIG=$aptroot/apt.conf apt-get -qq download "$1" && dpkg-deb -x "$1"_*.deb "$2")
}

# usage: debootstrap TREE PACKAGE,PACKAGE... [mmdebstrap's options]
debootstrap() {
  local into=$1 include=$2
  shift 2
  mmdebstrap --include="$include" --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$@" "$suite" "$into" "$aptroot/sources.list"
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
  # Compressed files would be slow to load, and are more than a tiny initramfs can.
  find "$into/usr/lib/modules/$release" -name '*.xz' -exec xz -d {} +
  cp "$work/linux/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$into/usr/lib/modules/$release/"
  depmod -b "$into" "$release"
}

unpack "xen-hypervisor-$XEN-amd64" xen
zcat "$work"/xen/boot/xen-"$XEN"-amd64.gz >"$out/xen"
image=$(APT_CONFIG=$aptroot/apt.conf apt-cache depends --no-recommends --no-suggests linux-image-amd64 | awk '$1 == "Depends:" { print $2; exit }')
unpack "$image" linux
release=${image#linux-image-}
[ -e "$work/linux/lib" ] || ln -s usr/lib "$work/linux/lib"
cp "$work/linux/boot/vmlinuz-$release" "$out/vmlinuz"
depmod -b "$work/linux" "$release"

root=$work/root
debootstrap "$root" "$INCLUDE" --variant=essential
(cd "$root" && rm -rf boot/* var/cache/* var/lib/{apt,dpkg} usr/share/{doc,man,locale,i18n,zoneinfo,perl,perl5,python3,info,common-licenses} \
  usr/lib/python3* usr/lib/x86_64-linux-gnu/perl* usr/lib/x86_64-linux-gnu/gconv usr/bin/{perl*,python3*,gdb*} \
  usr/lib/xen-*/{boot,lib/python} usr/lib/grub* usr/lib/debug usr/lib/udev/hwdb* usr/sbin/grub*)
if [ "$suite" = bookworm ]; then
  modules "$root" $DOM0_MODULES $NICDOM_MODULES
  # The very node that runs the tests, with the libraries it loads.
  install -D -m 755 "$(readlink -f "$NODE")" "$root/usr/bin/node"
  ldd "$root/usr/bin/node" | grep -o '/[^ ]*' | while read -r file; do
    [ -e "$root$file" ] || install -D -m 755 "$(readlink -f "$file")" "$root$file"
  done
else
  modules "$root" $DOM0_MODULES
fi
mkdir -p "$root"/{proc,sys,dev,run,tmp,guests,lab}
pack "$root" "$out/system.cpio"

# A Debian as it is installed, but for the time that an emulated computer's first boot would take; and what boots it.
nicdom_disk() {
  local disk=$work/disk boot=$work/boot
  debootstrap "$disk" "$NICDOM_INCLUDE" --variant=apt
  rm -rf "$disk"/var/cache/apt/* "$disk"/var/lib/apt/lists/* "$disk/etc/apt/sources.list"
  modules "$disk" $NICDOM_MODULES $NICDOM_DISK_MODULES
  echo nicdom >"$disk/etc/hostname"
  echo '/dev/xvda / ext4 defaults 0 1' >"$disk/etc/fstab"
  chroot "$disk" systemd-machine-id-setup
  chroot "$disk" systemd-hwdb update
  chroot "$disk" journalctl --update-catalog
  chroot "$disk" ldconfig
  chroot "$disk" systemctl mask serial-getty@hvc0.service getty@tty1.service getty-static.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_reap.service fstrim.timer systemd-random-seed.service \
    modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service dev-mqueue.mount \
    dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount systemd-udev-load-credentials.service \
    systemd-update-utmp.service systemd-user-sessions.service systemd-boot-random-seed.service systemd-tpm2-setup-early.service
  # The lab's hand has no terminal to ask on; without this apt looks for one with many a perl.
  chroot "$disk" sh -c 'echo "debconf debconf/frontend select Noninteractive" | debconf-set-selections'
  touch "$disk/etc/.updated" "$disk/var/.updated"
  mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0 -d "$disk" "$out/nicdom.img" 600M

  mkdir -p "$boot"/{bin,proc,sys,dev,usr/lib,root}
  ln -s usr/lib "$boot/lib"
  cp "$root/bin/busybox" "$boot/bin/busybox"
  for name in sh mount modprobe insmod sleep cp switch_root; do ln -s busybox "$boot/bin/$name"; done
  modules "$boot" $NICDOM_DISK_MODULES
  pack "$boot" "$guests/nicdom-base.cpio"
}

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
if [ "$suite" = bookworm ]; then
  lz4 -l -q "$out/system.cpio" "$guests/nicdom-base.cpio.lz4"
else
  nicdom_disk
fi
pack "$work/guests" "$out/guests.cpio"
ls -l "$out" "$guests"
touch "$out/complete"
# Older builds are of no use any more.
find "$cache" -mindepth 1 -maxdepth 1 -type d -name "$suite-*" ! -name "$key" -mmin +60 -exec rm -rf {} +
echo "$out" >&3
