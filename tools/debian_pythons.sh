#!/usr/bin/env bash
# Run the suite under Pythons that this machine lacks, in a folder with Debian unstable in it.
#
#   tools/debian_pythons.sh FOLDER [ENV ...] [-- PYTEST ARGUMENTS]
#
# Makes the folder if need be (debootstrap, about 1 GB, a minute or two), installs the CPythons and
# the PyPy that Debian has today, and runs tox inside with each CPython, or with the tox environments
# named (py315, pypy3 ...). Debian has no free-threaded CPython; the hosted workflow runs that.
# Nothing outside the folder is changed. Needs root.
set -euo pipefail

[[ $# -ge 1 && $1 != -* ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
folder=$(realpath -m "$1")
shift
envs=()
while (($#)) && [[ $1 != -- ]]; do
    envs+=("$1")
    shift
done
(($#)) && shift # the --
pytest=("$@")

root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive
say() { printf '\n=== %s\n' "$*"; }

[[ $(id -u) == 0 ]] || { echo "needs root, for debootstrap and chroot"; exit 2; }
command -v debootstrap >/dev/null || { echo "please install: debootstrap"; exit 2; }
# Mounts made below are seen here alone, and are gone when this script ends, however it ends.
if [[ -z ${NETPOLL_UNSHARED-} ]]; then
    NETPOLL_UNSHARED=1 exec unshare --mount "$0" "$folder" "${envs[@]}" -- "${pytest[@]}"
fi

inside() { chroot "$folder" "$@" </dev/null; }

make_folder() {
    say "Debian unstable in $folder"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv sid "$folder" |
        grep -E '^(E:|W:)|successfully' || true
    # A mirror that stands still for a while is good enough for tests.
    echo 'Acquire::Check-Valid-Until "false";' >"$folder/etc/apt/apt.conf.d/99netpoll"
    touch "$folder/.netpoll"
}

join_machine() {
    mount -t proc proc "$folder/proc"
    mount --rbind /dev "$folder/dev"
    # How this machine reaches its package registries: names, certificates, pip's configuration.
    local file
    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
        [[ ! -e $file ]] || cp -L "$file" "$folder$file"
    done
}

install_pythons() {
    say "Pythons from Debian"
    inside apt-get -qq update
    local packages
    packages=$(inside apt-cache pkgnames python3. | grep -xE 'python3\.[0-9]+' | sort -V)
    # with their own tests, of which tests/asyncio_suite runs those of asyncio
    packages+=$'\n'$(sed 's/.*/lib&-testsuite/' <<<"$packages")
    packages+=$'\n'$(inside apt-cache pkgnames pypy3 | grep -xE 'pypy3|pypy3-dev' || true)
    # gcc, for what has no wheel for PyPy
    # shellcheck disable=SC2086 # words are wanted
    inside apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends \
        gcc libc6-dev $packages >/dev/null
}

# The tox environments of the CPythons that are there. PyPy frees a buffer only when its collector
# runs, which some tests take for a leak; so it is run only when asked for.
present() {
    local python
    for python in "$folder"/usr/bin/python3.[0-9]*; do
        [[ ! $python =~ /python3\.[0-9]+$ ]] || basename "$python" | tr -d . | sed 's/python/py/'
    done
}

copy_tree() {
    mkdir -p "$folder/netpoll"
    # .tox and .venv stay: they make the next run quick
    find "$folder/netpoll" -mindepth 1 -maxdepth 1 ! -name .tox ! -name .venv -exec rm -rf {} +
    git -C "$root" ls-files -z --cached --others --exclude-standard |
        tar -C "$root" --null -T - --ignore-failed-read -c |
        tar -C "$folder/netpoll" --no-same-owner -x
}

[[ -e $folder/.netpoll ]] || make_folder
join_machine
install_pythons
((${#envs[@]})) || mapfile -t envs < <(present)
copy_tree
say "running: ${envs[*]}"
inside env -i HOME=/root PATH=/usr/local/bin:/usr/bin:/bin TERM="${TERM-dumb}" \
    python3 /netpoll/tools/bootstrap.py test -e "$(IFS=, && echo "${envs[*]}")" -- "${pytest[@]}"
