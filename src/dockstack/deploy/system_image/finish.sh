#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the packages' own scripts would do differently if they knew that this is a container; run inside the new root.
set -eu

# Python's modules, in one go instead of one for each package (assemble.sh).
python3 -m compileall -q /usr/lib/python3 /usr/lib/python3.[0-9]* >/dev/null

# The console of a server is /dev/console; there are no virtual terminals.
systemctl --quiet enable console-getty.service
systemctl --quiet mask getty-static.service getty@.service

# What is the host's: devices, disks, the clock, the kernel.
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udev-settle.service \
    systemd-udevd-control.socket systemd-udevd-kernel.socket cloud-init-hotplugd.socket cloud-init-hotplugd.service \
    systemd-modules-load.service systemd-pstore.service systemd-random-seed.service systemd-binfmt.service \
    systemd-repart.service systemd-firstboot.service systemd-journald-audit.socket systemd-hwdb-update.service \
    proc-sys-fs-binfmt_misc.automount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount kmod-static-nodes.service \
    fstrim.timer e2scrub_all.timer e2scrub_reap.service systemd-timesyncd.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done

# Without unattended-upgrades they do nothing but fetch lists, on all servers at once.
systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer

# The date at which a password was set is that of the build; there is none to expire.
sed -i 's/^\([^:]*:[^:]*\):[0-9]*:/\1::/' /etc/shadow

# cloud-init's local stage would ask for an address by DHCP. A server has its addresses before it starts: this stage is
# for the config drive alone.
local_stage=/etc/systemd/system/cloud-init-local.service.d
mkdir -p "$local_stage"
if [ -e /usr/lib/systemd/system/cloud-init-main.service ]; then
    # One process runs all stages, and reads this file anew in each.
    cat >"$local_stage/dockstack.conf" <<'END'
[Service]
ExecStartPre=/bin/sh -c 'mkdir -p /run/cloud-init && echo "datasource_list: [ConfigDrive]" >/run/cloud-init/cloud.cfg'
ExecStartPost=/bin/rm -f /run/cloud-init/cloud.cfg
END
else
    cat >"$local_stage/dockstack.conf" <<'END'
[Unit]
ConditionPathExists=/config-drive
END
fi
