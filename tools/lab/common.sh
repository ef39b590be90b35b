# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What the labs of all architectures share; sourced by tools/lab/x86 and tools/lab/arm64.
#
# tools/xen-lab parses the command line and then executes tools/lab/ARCH with "run" or "images" as its
# argument and these variables exported (paths are absolute, folders exist):
#   LAB_ARCH     x86 or arm64
#   LAB_SCRIPT   the job script for dom0 (run only)
#   LAB_FILES    its files, one a line
#   LAB_ARGS     arguments for the job script, one a line
#   LAB_BUILD    the build folder, empty when there is none
#   LAB_OUT      where logs and results go
#   LAB_TIMEOUT  seconds for the whole run after the images are there
#   LAB_CACHE    the cache folder of this architecture
#   LAB_T0       start of the run, seconds since the epoch

LAB_STAGE=start
LAB_TRAP=

# lab_die TEXT...: one clear line, exit 2 (the lab itself failed, not the job).
lab_die()
{
    echo "xen-lab: $LAB_STAGE: $*" >&2
    exit 2
}

# lab_stage NAME: a new stage begins; says so with the seconds since the start.
lab_stage()
{
    LAB_STAGE=$*
    printf 'xen-lab: %4d s  %s\n' $(($(date +%s) - ${LAB_T0:-$(date +%s)})) "$LAB_STAGE" >&2
}

# lab_need PROGRAM PACKAGE [PROGRAM PACKAGE]...: the host must have these.
lab_need()
{
    local missing=()
    while [ $# -ge 2 ]; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} -eq 0 ] || lab_die "needs the packages ${missing[*]}: apt-get install ${missing[*]}"
}

# lab_tmpdir: makes LAB_TMP, removed at exit. lab_at_exit adds further commands.
lab_tmpdir()
{
    LAB_TMP=$(mktemp -d "${TMPDIR:-/tmp}/xen-lab.XXXXXX") || lab_die "no temporary folder"
    lab_at_exit "rm -rf '$LAB_TMP'"
}

# lab_at_exit COMMAND: run at exit, the last one added first.
lab_at_exit()
{
    LAB_TRAP="$1${LAB_TRAP:+; $LAB_TRAP}"
    # shellcheck disable=SC2064 # expanded now on purpose
    trap "$LAB_TRAP" EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# LAB_APT: options for every apt call (a private apt root for a foreign architecture).
LAB_APT=()

# lab_versions PACKAGE...: prints PACKAGE=VERSION of each package's candidate, sorted.
lab_versions()
{
    local out
    out=$(apt-cache "${LAB_APT[@]}" policy "$@" 2>/dev/null |
        awk '/^[^ ]/ { p = $1; sub(/:$/, "", p) } $1 == "Candidate:" && $2 != "(none)" { print p "=" $2 }' | sort -u)
    [ -n "$out" ] || lab_die "apt knows none of: $* (apt-get update?)"
    echo "$out"
}

# lab_closure PATTERN PACKAGE...: the packages and those of their dependencies (to any depth) whose name matches
# the extended regular expression PATTERN.
lab_closure()
{
    local pattern=$1
    shift
    {
        printf '%s\n' "$@"
        apt-cache "${LAB_APT[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
            --no-replaces --no-enhances "$@" 2>/dev/null | grep -E '^[a-z0-9]' | grep -E "$pattern"
    } | sort -u
}

# lab_key FILE... <list: one key for the list on stdin (package versions) and the files' contents.
lab_key()
{
    { cat; [ $# -eq 0 ] || cat "$@"; } | sha256sum | cut -c1-16
}

# lab_unpack ROOT PACKAGE=VERSION...: downloads the packages and unpacks them below ROOT.
lab_unpack()
{
    local root=$1 deb
    shift
    mkdir -p "$root" "$LAB_TMP/debs" || lab_die "cannot make $root"
    # As root apt drops to the user _apt, who cannot write here: say so once, not per file.
    (cd "$LAB_TMP/debs" && apt-get "${LAB_APT[@]}" -q -o APT::Sandbox::User=root download "$@") \
        >"$LAB_TMP/apt.log" 2>&1 ||
        lab_die "apt-get download failed: $(grep -m1 '^E:' "$LAB_TMP/apt.log") (apt-get update?)"
    for deb in "$LAB_TMP"/debs/*.deb; do
        dpkg-deb -x "$deb" "$root" || lab_die "cannot unpack $deb"
    done
    rm -rf "$LAB_TMP/debs"
}

# lab_image KEY BUILDER: makes $LAB_CACHE/KEY once by calling BUILDER with a folder that becomes it; sets LAB_IMG.
# Two runs at the same time: one builds, the other waits. Older folders are removed when no run uses them.
lab_image()
{
    local key=$1 builder=$2 old new
    mkdir -p "$LAB_CACHE" || lab_die "cannot make the cache folder $LAB_CACHE"
    LAB_IMG=$LAB_CACHE/$key
    exec 8>"$LAB_CACHE/lock"
    flock 8
    if [ ! -e "$LAB_IMG/complete" ]; then
        new=$LAB_CACHE/new.$$
        rm -rf "$new" "$LAB_IMG"
        mkdir "$new"
        "$builder" "$new" || lab_die "building the images failed"
        touch "$new/complete"
        mv "$new" "$LAB_IMG"
        for old in "$LAB_CACHE"/*/; do
            [ "$old" = "$LAB_IMG/" ] || flock -n -x "$old" rm -rf "$old"
        done
    fi
    exec 9<"$LAB_IMG"
    flock -s 9
    flock -u 8
}

# lab_libs ROOT FILE...: prints the libraries below ROOT that the ELF files need, to any depth, one path a line;
# a library that ROOT lacks as "missing NAME". Reads the ELF headers only: any architecture.
lab_libs()
{
    local root=$1 todo=() next name path
    local -A index=() known=()
    shift
    while IFS= read -r path; do
        index[${path##*/}]=$path
    done < <(find "$root" \( -type f -o -type l \) \( -name '*.so' -o -name '*.so.*' \))
    todo=("$@")
    while [ ${#todo[@]} -gt 0 ]; do
        next=()
        while IFS= read -r name; do
            [ -z "${known[$name]:-}" ] || continue
            known[$name]=1
            path=${index[$name]:-}
            if [ -n "$path" ]; then
                echo "$path"
                next+=("$path")
            else
                echo "missing $name"
            fi
        done < <(readelf -d "${todo[@]}" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p' | sort -u)
        todo=("${next[@]}")
    done
}

# lab_install_libs FROM TO LIBDIR FILE...: copies what lab_libs finds in FROM for the FILEs to TO/LIBDIR.
lab_install_libs()
{
    local from=$1 to=$2 libdir=$3 line
    shift 3
    mkdir -p "$to/$libdir"
    while IFS= read -r line; do
        case $line in
        missing\ *) lab_die "no package here has the library ${line#missing }" ;;
        *) cp -L "$line" "$to/$libdir/" || lab_die "cannot copy $line" ;;
        esac
    done < <(lab_libs "$from" "$@")
}

# lab_install_modules FROM TO VERSION NAME...: copies kernel modules and what they depend on; their order of
# loading, one file name a line, goes to TO/etc/lab-modules. Built-in ones are left out.
lab_install_modules()
{
    local from=$1/lib/modules/$3 to=$2 name line path
    local -A known=()
    mkdir -p "$to/lib/modules" "$to/etc"
    : >"$to/etc/lab-modules"
    shift 3
    for name in "$@"; do
        grep -q "/${name//-/[-_]}\.ko$" "$from/modules.builtin" && continue
        line=$(grep -E "/${name//[-_]/[-_]}\.ko:" "$from/modules.dep") || lab_die "the kernel has no module $name"
        # modules.dep names the module first, then what it needs, the deepest last: load from the end.
        for path in $(tr -d : <<<"$line" | tr ' ' '\n' | tac); do
            [ -z "${known[$path]:-}" ] || continue
            known[$path]=1
            cp "$from/$path" "$to/lib/modules/" || lab_die "cannot copy $path"
            echo "${path##*/}" >>"$to/etc/lab-modules"
        done
    done
}

# lab_busybox ROOT TO: TO/bin/busybox; its applets are linked at boot by busybox --install.
lab_busybox()
{
    mkdir -p "$2/bin"
    cp "$(find "$1/bin" "$1/usr/bin" -name busybox 2>/dev/null | head -n 1)" "$2/bin/busybox" ||
        lab_die "no busybox in $1"
}

# lab_cpio FOLDER FILE: packs FOLDER as an initramfs, owned by root.
lab_cpio()
{
    (cd "$1" && find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc -R 0:0) >"$2" ||
        lab_die "cannot make $2"
}

# lab_watch PID SERIAL: waits for the emulator, naming each stage that dom0 announces on its console by a line
# "LAB-STAGE: name". 0 when the emulator ended by itself, 124 after LAB_TIMEOUT seconds (it is killed then).
lab_watch()
{
    local pid=$1 serial=$2 seen=0 line end
    end=$(($(date +%s) + LAB_TIMEOUT))
    while kill -0 "$pid" 2>/dev/null; do
        lab_show_stages
        if [ "$(date +%s)" -ge "$end" ]; then
            kill -KILL "$pid" 2>/dev/null
            wait "$pid" 2>/dev/null
            echo "xen-lab: timed out after $LAB_TIMEOUT s in stage \"$LAB_STAGE\"; the console's end:" >&2
            tail -n 15 "$serial" | sed 's/^/    /' >&2
            return 124
        fi
        sleep 0.2
    done
    wait "$pid" 2>/dev/null
    lab_show_stages
    return 0
}

# Helper of lab_watch; uses its variables serial, seen, line.
lab_show_stages()
{
    [ -e "$serial" ] || return 0
    while IFS= read -r line; do
        seen=$((seen + 1))
        lab_stage "${line#*LAB-STAGE: }"
    done < <(tr -d '\r' <"$serial" | grep -a 'LAB-STAGE: ' | tail -n "+$((seen + 1))")
}
