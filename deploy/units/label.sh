#!/bin/sh
# SELinux: give what was installed the labels that the host's policy has for its place. Root. Does nothing where
# SELinux is off. Files that were moved here from elsewhere keep the label of that place, and do not start (203/EXEC).
set -eu
command -v selinuxenabled > /dev/null 2>&1 && selinuxenabled || exit 0
command -v restorecon > /dev/null 2>&1 || {
  echo "label.sh: SELinux is on and restorecon is missing: install policycoreutils" >&2
  exit 1
}
for path in /opt/appliance /var/lib/appliance /run/appliance /etc/systemd/system /etc/init.d; do
  [ ! -e "$path" ] || restorecon -R "$path"
done
