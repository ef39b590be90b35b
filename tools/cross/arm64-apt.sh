# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Sourced by tools/cross/arm64 and tools/lab/arm64: arm64 packages and Debian
# sources, taken through an apt root of our own inside the cache. The host's
# dpkg gets no foreign architecture, /etc/apt is read (proxies, mirrors'
# certificates) and never written.
#
# arm64_cache                  prints the cache folder, makes it
# arm64_locked                 returns once this process owns the cache
# arm64_unpack DIR PACKAGE...  unpacks the newest arm64 PACKAGEs into DIR
# arm64_source DIR PACKAGE     unpacks a Debian source package to DIR
# arm64_stamp FILE...          prints a checksum of the FILEs, for freshness

arm64_mirror=${IOREQD_DEBIAN_MIRROR:-http://deb.debian.org}
arm64_suite=bookworm

arm64_say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

arm64_die() {
    arm64_say "$@"
    exit 1
}

arm64_need() {
    local tool missing=()

    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} -eq 0 ] || arm64_die "missing on this machine: ${missing[*]} (run tools/packages)"
}

arm64_cache() {
    local dir=${IOREQD_LAB_CACHE:-$HOME/.cache/ioreqd-lab}/cross-arm64

    mkdir -p "$dir"
    printf '%s\n' "$dir"
}

# Two builds at once would tear each other's folders. The descriptor stays open
# in $arm64_lock_fd; background children must close it, or they keep the lock.
arm64_locked() {
    local dir

    dir=$(arm64_cache)
    [ -n "${arm64_lock_fd:-}" ] && return
    exec {arm64_lock_fd}>"$dir/lock"
    if ! flock -n "$arm64_lock_fd"; then
        arm64_say "another process builds in $dir; waiting for it"
        flock "$arm64_lock_fd"
    fi
}

arm64_unlock() {
    exec {arm64_lock_fd}>&-
    arm64_lock_fd=
}

arm64_stamp() {
    cat "$@" | sha256sum | cut -d' ' -f1
}

arm64_apt_configure() {
    local apt=$1 key=/usr/share/keyrings/debian-archive-keyring.gpg

    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/none"
    : >"$apt/status"
    cat >"$apt/sources.list" <<END
deb [signed-by=$key arch=arm64] $arm64_mirror/debian $arm64_suite main
deb [signed-by=$key arch=arm64] $arm64_mirror/debian-security $arm64_suite-security main
deb-src [signed-by=$key] $arm64_mirror/debian $arm64_suite main
END
    cat >"$apt/apt.conf" <<END
#clear APT::Architectures;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "$apt";
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::Archives "$apt/archives";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "$apt/none";
Dir::Etc::Preferences "$apt/none/preferences";
Dir::Etc::PreferencesParts "$apt/none";
Acquire::Retries "3";
END
}

# A package in a day-old index may be gone from the mirror; within the hour the
# index is good enough.
arm64_apt_update() {
    local apt

    apt=$(arm64_cache)/apt
    [ -z "$(find "$apt/updated" -mmin -60 2>/dev/null)" ] || return 0
    arm64_apt_configure "$apt"
    arm64_say "reading $arm64_mirror's index of arm64 packages"
    apt-get -c "$apt/apt.conf" -qq update >"$apt/update.log" 2>&1 ||
        { cat "$apt/update.log" >&2; arm64_die "apt-get update failed (mirror: $arm64_mirror)"; }
    touch "$apt/updated"
}

# arm64_fetch POOL APT-GET-ARGUMENT...: the files go to POOL. What the index names
# may be gone from the mirror by now: then once more with a new index.
arm64_fetch() {
    local pool=$1 apt
    shift

    apt=$(arm64_cache)/apt
    arm64_apt_update
    (cd "$pool" && apt-get -c "$apt/apt.conf" -qq "$@") >"$pool/log" 2>&1 && return
    rm -f "$apt/updated"
    arm64_apt_update
    (cd "$pool" && apt-get -c "$apt/apt.conf" -qq "$@") >"$pool/log" 2>&1 ||
        { cat "$pool/log" >&2; arm64_die "apt-get failed: $*"; }
}

arm64_unpack() {
    local dir=$1 pool deb
    shift

    mkdir -p "$dir" "$(arm64_cache)/apt"
    pool=$(mktemp -d "$(arm64_cache)/apt/pool.XXXXXX")
    arm64_fetch "$pool" download "$@"
    for deb in "$pool"/*.deb; do
        dpkg-deb -x "$deb" "$dir" || arm64_die "cannot unpack ${deb##*/}"
    done
    rm -r "$pool"
}

arm64_source() {
    local dir=$1 package=$2 pool

    mkdir -p "$(arm64_cache)/apt"
    pool=$(mktemp -d "$(arm64_cache)/apt/pool.XXXXXX")
    arm64_fetch "$pool" --only-source source "$package"
    rm -rf "$dir"
    mv "$pool/$package"-*/ "$dir" || arm64_die "no source folder of $package"
    rm -r "$pool"
}

# arm64_depends PACKAGE: the first thing PACKAGE depends on (for packages that only name another).
arm64_depends() {
    arm64_apt_update
    apt-cache -c "$(arm64_cache)/apt/apt.conf" show --no-all-versions "$1" |
        sed -n 's/^Depends: \([^ ,]*\).*/\1/p' | head -n 1
}
