#!/bin/busybox sh
# shellcheck shell=dash
# The kernel lab (`cargo xtask vm`) puts this into a guest's first file system as /init, and the kernel starts it.
# A root is made of the host's file system, read-only, and of memory to write to; lab-guest-jobs.sh goes on there.
b=/bin/busybox
give_up() {
    echo "postern lab: $1"
    $b poweroff -f
}
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
# shellcheck source=/dev/null
. /settings
for module in /modules/*.ko; do
    [ -e "$module" ] || continue
    $b insmod "$module" || give_up "cannot load $module"
done
$b mount -t virtiofs -o ro host /lower || give_up "cannot mount the host's file system"
$b mount -t tmpfs -o mode=755 tmpfs /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new ||
    give_up "cannot lay memory over the host's file system"
$b mount -t tmpfs -o mode=755 tmpfs /new/run
$b mkdir -p /new/run/postern-vm "/new/lib/modules/$KERNEL_RELEASE"
$b cp /bin/busybox /lab-guest-jobs.sh /settings /jobs /new/run/postern-vm
# The host's kernel has modules of its own, or none; these are the guest's.
$b mount --bind "/lower$KERNEL_MODULES" "/new/lib/modules/$KERNEL_RELEASE" || give_up "cannot find $KERNEL_MODULES"
for directory in proc sys dev; do
    $b mount --move "/$directory" "/new/$directory"
done
exec $b switch_root /new /run/postern-vm/busybox sh /run/postern-vm/lab-guest-jobs.sh
