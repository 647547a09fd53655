# shellcheck shell=sh
# Sourced by the init scripts. VIFD_ROOT is for tests.

# Whether vifd has something to do here: a Xen domain, and not dom0 unless VIFD_IN_DOM0=yes or vifd only observes.
vifd_is_wanted() {
    if ! [ -e "${VIFD_ROOT:-}/dev/xen/xenbus" ] && ! [ -e "${VIFD_ROOT:-}/proc/xen/xenbus" ]; then
        return 1
    fi
    [ "${VIFD_IN_DOM0:-no}" = yes ] || vifd_observes || ! vifd_is_dom0
}

vifd_observes() {
    grep -qsE '^[[:space:]]*(agent\.)?mode[[:space:]]*=[[:space:]]*"observe"' \
        "${VIFD_ROOT:-}/etc/xen/vifd.toml" "${VIFD_ROOT:-}"/etc/xen/vifd.d/*.toml
}

# By xenfs, or where that is not mounted by Xen's feature bits: 11 is XENFEAT_dom0.
vifd_is_dom0() {
    if grep -q control_d "${VIFD_ROOT:-}/proc/xen/capabilities" 2>/dev/null; then
        return 0
    fi
    features=$(cat "${VIFD_ROOT:-}/sys/hypervisor/properties/features" 2>/dev/null) || return 1
    case $features in '' | *[!0-9a-f]*) return 1 ;; esac
    [ $((0x$features >> 11 & 1)) = 1 ]
}
