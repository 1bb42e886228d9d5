# Boots systemd as process 1 of namespaces of its own, with journald, D-Bus and sshd: what it changes nobody else sees.
#
#   unshare --mount --pid --fork --kill-child --mount-proc --ipc --uts sh systemd.sh CONFIG LOG
#
# CONFIG is sshd's, LOG its log; in the same folder are passwd, group and sudoers, which take the place of those in /etc.
set -e
dir=${1%/*}
if [ "$3" != inside ]; then
  # A cgroup of its own, as the root that it sees.
  umount -R /sys/fs/cgroup 2>/dev/null || true
  mount -t cgroup2 cgroup /sys/fs/cgroup
  group=/sys/fs/cgroup/vgg-edge-${dir##*/}
  mkdir "$group"
  echo 1 >"$group/cgroup.procs"
  exec unshare --cgroup sh "$0" "$1" "$2" inside
fi
umount /sys/fs/cgroup
mount -t cgroup2 cgroup /sys/fs/cgroup
# The kernel's settings are the machine's.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys

units=$dir/system
mkdir "$units"
for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket dbus.service dbus.socket; do
  cp "/lib/systemd/system/$unit" "$units"
done
for target in sysinit basic multi-user network-online shutdown; do
  printf '[Unit]\nDefaultDependencies=no\n' >"$units/$target.target"
done
cat >"$units/board.target" <<END
[Unit]
Wants=systemd-journald.service dbus.socket sshd.service
END
cat >"$units/sshd.service" <<END
[Service]
ExecStart=/usr/sbin/sshd -f $1 -D -E $2
END
# Temporary files of services go with them; the board's own folder, which may lie there, stays.
mount --bind "$dir" /opt
for path in /tmp /var/tmp; do mount -t tmpfs none "$path"; done
mkdir -p "$dir"
mount --move /opt "$dir"
for path in /run /opt /var/log /etc/systemd/system; do mount -t tmpfs -o mode=755 none "$path"; done
mkdir -p /run/sshd /run/lock /run/pi
mount --bind "$units" /lib/systemd/system
for file in passwd group sudoers; do mount --bind "$dir/$file" "/etc/$file"; done
chown pi /run/pi
# As at the start of a machine: what a child of systemd mounts is seen by all.
mount --make-rshared /
export container=test
exec /lib/systemd/systemd --unit=board.target --log-target=journal
