#!/bin/bash
# Boots a throw-away systemd over an overlay of this machine's own root and prints its pid; powers
# it off when the standard input ends. Leaves no process, mount or control group behind.
# Arguments: an empty folder, then each path to be seen inside that may lie on another mount.
# Ends with 77 and a reason where that cannot work. To be run in a mount namespace of its own.
set -euo pipefail
cannot() { echo "cannot $1" && exit 77; }
work=$1 && shift
mount -t tmpfs tmpfs "$work" || cannot "mount a tmpfs"
mkdir "$work"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root" ||
    cannot "mount an overlay of /"
for path in "$@"; do # what leads there may be closed to others: a home, say; here it is a copy
    while path=$(dirname "$path") && [[ $path != / ]]; do
        mkdir -p "$work/root$path" && chmod o+x "$work/root$path"
    done
done
mount -t tmpfs tmpfs /run
mount -t cgroup2 none /sys/fs/cgroup || cannot "mount the control groups"
group=/sys/fs/cgroup/clipwatch-test-$$
mkdir "$group" || cannot "make a control group"
echo $$ >"$group/cgroup.procs"
leave() {
    echo $$ >/sys/fs/cgroup/cgroup.procs
    find "$group" -depth -type d -exec rmdir {} \;
}
trap leave EXIT
# the two capabilities and the system call: without them DeviceAllow= is not enforced
systemd-nspawn --quiet --register=no --keep-unit --private-network --machine="clipwatch-$$" \
    --directory="$work/root" --link-journal=no --capability=CAP_BPF,CAP_PERFMON \
    --system-call-filter=bpf "${@/#/--bind-ro=}" --console=pipe \
    --boot systemd.unit=basic.target </dev/null >"$work/console" 2>&1 &
nspawn=$!
for _ in $(seq 200); do
    leader=$(pgrep --parent $nspawn --exact systemd || true)
    [[ -n $leader ]] && break
    kill -0 $nspawn 2>/dev/null || break
    sleep 0.05
done
[[ -n $leader ]] || cannot "boot: $(tail -n 3 "$work/console" | tr '\n' ' ')"
echo "$leader"
cat >/dev/null
nsenter --target "$leader" --all -- systemctl poweroff 2>/dev/null || true # it may be gone before it answers
for _ in $(seq 200); do
    kill -0 $nspawn 2>/dev/null || break
    sleep 0.05
done
kill -KILL "$leader" 2>/dev/null || true
wait $nspawn || true
