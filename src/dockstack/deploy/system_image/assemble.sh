#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make a root file system out of Debian's packages, and of that a tar that is the same for the same packages.
#
# It runs in namespaces of its own (builder.py makes them): what it mounts and starts ends with it, and packages' own
# scripts reach no network. Standard output is dpkg's status lines, one for each step of each package.
#
# Usage: assemble.sh WORK EPOCH BITS64
#   WORK/archives/*.deb   all packages
#   WORK/essential        the file names of those that all others may take for granted
#   WORK/files.tar        our own files
#   WORK/layer.tar        is the result
#   EPOCH                 the time of whatever has no time of its own
#   BITS64                lib64, where this architecture has such a directory
set -eu
umask 022

work=$1
export SOURCE_DATE_EPOCH="$2"
bits64=$3
root=$work/root
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true DEBCONF_NOWARNINGS=yes
export LC_ALL=C.UTF-8 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONHASHSEED=0

in_root() {
    chroot "$root" "$@"
}

# dpkg [OPTION]... FILE...: unsafe only in that a crash may lose this build, which is then begun anew.
install_packages() {
    in_root dpkg --status-fd 3 --force-unsafe-io --force-confnew --abort-after=100000 \
        --path-exclude='/usr/share/man/*' --path-exclude='/usr/share/info/*' --path-exclude='/usr/share/locale/*' \
        --path-exclude='/usr/share/doc/*' --path-include='/usr/share/doc/*/copyright' \
        --path-include='/usr/share/locale/locale.alias' "$@" 3>&1 >&2
}

# Which of these files of packages are not unpacked yet, a word each.
not_unpacked() {
    for file in "$@"; do
        name=${file##*/}
        # shellcheck disable=SC2016  # dpkg-query's own word
        state=$(in_root dpkg-query --show --showformat='${db:Status-Status}' "${name%%_*}" 2>/dev/null) || state=
        case ${state:-not-installed} in *-installed) printf ' %s' "$file" ;; esac
    done
}

# The file of one package, as the root sees it; nothing if this release does not have it.
archive_of() {
    for file in "$root/archives/$1"_*.deb; do
        [ ! -e "$file" ] || echo "${file#"$root"}"
    done
}

hostname localhost # which scripts write down at times; that of this machine is nobody's business

mkdir "$root"
for directory in bin sbin lib $bits64; do
    mkdir -p "$root/usr/$directory"
    ln -s "usr/$directory" "$root/$directory"
done

# 1. Enough files for dpkg to run in there.
while read -r file; do
    dpkg-deb --fsys-tarfile "$work/archives/$file" | tar -x -C "$root" --keep-directory-symlink
done <"$work/essential"
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/archives"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount --bind "$work/archives" "$root/archives"
mount -o remount,bind,ro "$root/archives"

# 2. The packages. No service starts in here, whatever a package's script would like.
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/triggers" "$root/usr/sbin"
: >"$root/var/lib/dpkg/status"
: >"$root/var/lib/dpkg/available"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# These first, one by one: what all other packages' scripts use.
for package in base-passwd base-files dpkg libc6 perl-base mawk debconf; do
    file=$(archive_of "$package")
    [ -z "$file" ] || install_packages --force-depends --install "$file"
done
# Python's modules are compiled in the end, at once; each package would start Python twice to compile its own.
printf '#!/bin/sh\nexit 0\n' >"$work/nothing"
chmod 755 "$work/nothing"
compiler=$root/usr/bin/py3compile
essential=$(sed 's|^|/archives/|' "$work/essential")
# shellcheck disable=SC2086  # one word for each file
install_packages --force-depends --unpack $essential
install_packages --force-depends --configure --pending
others=$(cd "$root" && for file in archives/*.deb; do
    grep -qxF "${file#archives/}" "$work/essential" || echo "/$file"
done)
# What a package's script uses before the package is unpacked, its pre-dependencies, has to be configured by then: dpkg
# passes over what comes too early, and it comes in a later round. What no round brings any further has to go as it is.
# shellcheck disable=SC2086
left=$(not_unpacked $others)
while [ -n "$left" ]; do
    before=$left
    # shellcheck disable=SC2086
    install_packages --unpack $left || true
    [ ! -e "$compiler" ] || mountpoint -q "$compiler" || mount --bind "$work/nothing" "$compiler"
    install_packages --configure --pending || true
    # shellcheck disable=SC2086
    left=$(not_unpacked $left)
    [ "$left" != "$before" ] || break
done
if [ -n "$left" ]; then
    # shellcheck disable=SC2086
    install_packages --force-depends --unpack $left
fi
install_packages --force-depends --configure --pending
[ ! -e "$compiler" ] || umount "$compiler"
tar -x -C "$root" --keep-directory-symlink -f "$work/files.tar"
in_root /usr/lib/dockstack/finish
rm -r "$root/usr/lib/dockstack"

# 3. What a server makes for itself, and what differs from build to build.
umount "$root/archives"
umount -R "$root/dev"
umount "$root/proc" "$root/sys" "$root/tmp" "$root/run"
rmdir "$root/archives"
rm -f "$root/usr/sbin/policy-rc.d"
for directory in man info doc locale; do
    # The first packages' files were unpacked without dpkg.
    find "$root/usr/share/$directory" -mindepth 1 \
        ! -type d ! -name copyright ! -name locale.alias -delete 2>/dev/null || true
    find "$root/usr/share/$directory" -mindepth 1 -type d -empty -delete 2>/dev/null || true
done
rm -f "$root"/etc/ssh/ssh_host_*_key* "$root"/etc/*- "$root"/etc/.pwd.lock "$root"/etc/hostname "$root"/etc/resolv.conf
rm -f "$root"/var/lib/dbus/machine-id "$root"/var/lib/dpkg/*-old "$root"/var/lib/dpkg/lock* \
    "$root"/var/lib/dpkg/available "$root"/var/lib/systemd/random-seed "$root"/var/lib/systemd/credential.secret \
    "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/debconf/*-old "$root"/var/lib/ucf/*.[0-9]
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/lib/cloud/*
find "$root/var/log" -type f -delete
: >"$root/etc/machine-id" # empty: systemd fills it in, and does not take each server's first boot for an installation
tar -c -C "$root" --one-file-system --sort=name --numeric-owner --format=posix \
    --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \
    --clamp-mtime --mtime="@$SOURCE_DATE_EPOCH" --xattrs --xattrs-include='*' -f "$work/layer.tar" .
