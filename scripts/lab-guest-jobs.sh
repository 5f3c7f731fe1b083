#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 in a guest of the kernel lab (`cargo xtask vm`), started by lab-guest-init.sh: sets up what an init does for
# tests, runs the jobs, powers off. Lines that begin with @@ are for the host.
exec </dev/null >/dev/ttyS1 2>&1
home=/run/postern-vm
b=$home/busybox
set -a
# shellcheck source=/dev/null
. $home/settings
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
set +a
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts -o ptmxmode=666 devpts /dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$b mount -t bpf bpf /sys/fs/bpf
$b ln -sf /proc/self/fd /dev/fd
$b hostname postern-vm
$b ip link set lo up
ulimit -n "$OPEN_FILES"

# The kernel loads modules by itself through this program.
$b mkdir $home/bin
$b ln -s "$KMOD" $home/bin/modprobe
$b cat >/usr/sbin/modprobe <<END
#!$b sh
LD_LIBRARY_PATH='$KMOD_LIBRARIES' exec $home/bin/modprobe "\$@"
END
$b chmod 755 /usr/sbin/modprobe
echo /usr/sbin/modprobe >/proc/sys/kernel/modprobe
for module in $MODULES; do
    # What is built in, or called otherwise in this kernel, is no failure: tests say what they miss.
    modprobe -q "$module" || echo "vm: no module $module"
done

echo "@@ up $($b uname -r)"
while IFS='	' read -r name directory command; do
    echo "@@ begin $name"
    cd "$directory" && eval "$command" </dev/null
    echo "@@ end $name $?"
done <$home/jobs
echo "@@ done"
# The serial line must be empty before the power goes.
$b sleep 1
$b poweroff -f
$b sleep 60
