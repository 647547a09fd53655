#!/bin/bash
# Makes the Debian 13 system in which the package is installed, with just what the package depends on, from the mirror that
# this machine's own apt uses: prints its directory. Run it before the tests: they have a network of their own.
set -euo pipefail
for program in mmdebstrap dpkg-deb apt-get; do
  command -v "$program" >/dev/null || { echo "$program is missing; see test/packages.txt" >&2; exit 3; }
done
. /etc/os-release
# The first of each set of alternatives, as apt would choose.
depends=$(dpkg-deb --field build/vifd_*_amd64.deb Depends | sed -E 's/ *[(|][^,]*//g; s/, */,/g')
# Made anew each week, for Debian's updates.
key=$({ cat "$0"; echo "$depends"; date +%G-%V; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vifd-package-root
out=$cache/$key
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
[ -e "$out/complete" ] && { echo "$out/root"; exit 0; }
[ "$(id -u)" = 0 ] || { echo 'the Debian system is made as root (mmdebstrap)' >&2; exit 3; }

rm -rf "${cache:?}"/*/
mkdir "$out"
apt-get indextargets --format 'deb $(REPO_URI) trixie $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' "Codename: $VERSION_CODENAME" |
  sort -u | mmdebstrap --quiet --variant=essential --include="$depends" \
  --dpkgopt='path-exclude=/usr/share/locale/*' trixie "$out/root" - >&2
touch "$out/complete"
echo "$out/root"
