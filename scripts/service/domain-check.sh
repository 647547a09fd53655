# shellcheck shell=sh
# Sourced by the init scripts. VIFD_ROOT is for tests.

# Whether vifd has something to do here: a Xen domain, and not dom0 unless VIFD_IN_DOM0=yes.
vifd_is_wanted() {
    if ! [ -e "${VIFD_ROOT:-}/dev/xen/xenbus" ] && ! [ -e "${VIFD_ROOT:-}/proc/xen/xenbus" ]; then
        return 1
    fi
    if [ "${VIFD_IN_DOM0:-no}" != yes ] && grep -q control_d "${VIFD_ROOT:-}/proc/xen/capabilities" 2>/dev/null; then
        return 1
    fi
    return 0
}
