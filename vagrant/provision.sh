#!/bin/sh
# Installs in a public Debian 12 i386 box, from Debian and PyPI, what the box of `socketcall target build` has inside.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends python3 python3-venv python3-pip strace iproute2 libcap2-bin
cp /vagrant/vagrant/guest/etc/modules-load.d/socketcall.conf /etc/modules-load.d/
systemctl restart systemd-modules-load || true # fails if the kernel lacks one of them; the others are loaded
# The newest psutil has no wheel for i386 and the box no compiler; this setting is for pip here, and for tox later.
printf '[global]\nprefer-binary = true\n' >/etc/pip.conf
python3 -m venv /opt/suite
/opt/suite/bin/pip install -q -e /vagrant tox pytest-xdist
ln -sf /opt/suite/bin/tox /opt/suite/bin/socketcall /usr/local/bin/
