#!/bin/bash
# Sets up a worker on a machine of the Deep Learning AMI. Run by user_data.sh; idempotent.
#
# A failed step ends this script, and user_data.sh then terminates the machine. Settings come from worker.env.
set -Eeuo pipefail
umask 022

root=${DESTDIR:-}
bundle=$(cd "$(dirname "$0")" && pwd -P)
opt=$root/opt/layoutlm
venv=$opt/venv
units=$root/etc/systemd/system
logs=$root/var/log/layoutlm
python=${LAYOUTLM_PYTHON:-/opt/pytorch/bin/python}  # the AMI's Python, with torch
nvme=$root/opt/dlami/nvme  # where the AMI mounts instance store
agent=$root/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl
unit_path=${LAYOUTLM_UNIT_PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin}  # systemd's, for worker@.service

main() {
  local step begun
  for step in load_settings check_aws ship_logs read_torch stop_updates stop_swap make_user choose_work_dir make_venv \
    check_device install_units start_workers stop_deadline; do
    begun=$SECONDS
    "$step"
    say "$step took $((SECONDS - begun)) s"
  done
  say "ready $(cut -d. -f1 /proc/uptime) s after the start"
}

say() { echo "bootstrap: $*"; }

load_settings() {
  set -a
  # shellcheck source=/dev/null
  . "$root/etc/layoutlm/worker.env"
  set +a
}

# The script that terminates this machine runs by systemd, whose PATH is not the one of the user data.
check_aws() {
  PATH=$unit_path command -v aws || { say "aws is not on the PATH of services, $unit_path" >&2 && return 1; }
}

# Ships the logs of the whole boot, so that a failed machine leaves its reason. The machine works without them, too.
ship_logs() {
  mkdir -p "$logs" "$root/etc/logrotate.d"
  cat >"$root/etc/logrotate.d/layoutlm" <<'END'
/var/log/layoutlm/*.log {
    daily
    maxsize 50M
    rotate 3
    compress
    copytruncate
    missingok
    notifempty
}
END
  [ -x "$agent" ] || return 0
  log_settings >"$root/etc/layoutlm/logs.json"
  "$agent" -a fetch-config -m ec2 -s -c "file:$root/etc/layoutlm/logs.json" || say "logs are not shipped"
}

log_settings() {
  local slot
  echo '{"logs": {"logs_collected": {"files": {"collect_list": ['
  for slot in $(seq 0 $((LAYOUTLM_SLOTS - 1))); do
    log_file "/var/log/layoutlm/worker-$slot.log" "worker-$slot"
    echo ,
  done
  log_file /var/log/cloud-init-output.log boot
  echo ']}}}}'
}

log_file() {
  printf '{"file_path": "%s", "log_group_name": "/layoutlm/%s/workers", "log_stream_name": "{instance_id}/%s"}\n' \
    "$1" "$LAYOUTLM_FLEET" "$2"
}

# A volume made from a snapshot is filled at first touch, some MB a second and file: reads what torch loads meanwhile.
read_torch() {
  local ami
  ami=$(ami_packages)
  find "$ami/torch/lib" "$ami/nvidia" -name '*.so*' -type f -print0 2>/dev/null |
    nice xargs -0 --no-run-if-empty -P 16 -n 1 cat >/dev/null 2>&1 &
}

ami_packages() { "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# Ubuntu's automatic updates restart services, including a worker with its job. Other images may have none to stop.
stop_updates() {
  local updates=(apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service)
  mkdir -p "$root/etc/needrestart/conf.d"
  echo "\$nrconf{restart} = 'l';" >"$root/etc/needrestart/conf.d/layoutlm.conf"  # a running update then only lists them
  systemctl mask "${updates[@]}" || say "no updates to mask"
  systemctl stop --no-block "${updates[@]}" || say "no updates to stop"  # a running update may take half an hour to stop
}

# A swapping trainer is slower than one that is killed and resumed with smaller batches.
stop_swap() { swapoff -a; }

make_user() {
  id layoutlm >/dev/null 2>&1 && return
  useradd --system --user-group --home-dir /var/lib/layoutlm --shell /usr/sbin/nologin layoutlm
}

# Prefers instance store, which is faster than the volume and costs nothing extra.
choose_work_dir() {
  systemctl start dlami-nvme.service || say "no service to mount instance store"
  work=/var/lib/layoutlm/work
  mountpoint --quiet "$nvme" && work=/opt/dlami/nvme/layoutlm
  mkdir -p "$root$work"
  chown layoutlm:layoutlm "$root$work"
  chmod 700 "$root$work"
  say "run directories: $work"
}

# A .pth file makes the AMI's torch available in the venv: the AMI's Python belongs to a venv itself, and
# --system-site-packages would expose the packages of the interpreter below both. The file is written last, so that pip
# satisfies no requirement of the lock from the AMI.
make_venv() {
  [ "$(cat "$venv/bundle" 2>/dev/null)" = "$LAYOUTLM_BUNDLE" ] && return
  local ami site wheels=("$bundle"/receipt_layoutlm-*.whl)
  rm -rf "$venv"
  "$python" -m venv --without-pip "$venv"
  install_packages --find-links "$bundle/wheels" --require-hashes --requirement "$bundle/worker.lock"
  install_packages "${wheels[@]}"
  ami=$(ami_packages)
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$ami" >"$site/ami.pth"
  echo "$LAYOUTLM_BUNDLE" >"$venv/bundle"
}

# From the bundle alone: a boot needs no package index, and what is installed was uploaded by the deployment.
install_packages() {
  "$python" -m pip --python "$venv/bin/python" --disable-pip-version-check --no-input install \
    --no-index --no-deps --only-binary :all: --quiet "$@"
}

# On NVIDIA hardware, torch must find one device for each slot; checked as the workers' user.
check_device() {
  local needed=0
  grep -qs 0x10de "$root"/sys/bus/pci/devices/*/vendor && needed=$LAYOUTLM_SLOTS
  [ "${LAYOUTLM_ALLOW_CPU:-0}" = 1 ] && needed=0
  runuser --user layoutlm -- "$venv/bin/python" -I - "$needed" <<'END'
import sys

import torch
import transformers

import receipt_layoutlm.worker.worker

found, needed = torch.cuda.device_count(), int(sys.argv[1])
print(f"torch {torch.__version__}, transformers {transformers.__version__}, {found} devices, {needed} required")
sys.exit(0 if found >= needed else f"torch finds {found} devices for {needed} workers")
END
}

install_units() {
  local one_device=""
  # a single worker uses all devices
  [ "$LAYOUTLM_SLOTS" -gt 1 ] && one_device="Environment=CUDA_VISIBLE_DEVICES=%i"
  mkdir -p "$units/worker@.service.d"
  cp "$bundle/worker@.service" "$units/worker@.service"
  cat >"$units/worker@.service.d/machine.conf" <<END
[Service]
ReadWritePaths=$work
Environment=LAYOUTLM_WORK_DIR=$work/%i HF_HOME=$work/%i/hub
$one_device
END
  systemctl daemon-reload
}

# Returns when all workers have reported that they are ready (Type=notify).
start_workers() {
  local slot names=()
  for slot in $(seq 0 $((LAYOUTLM_SLOTS - 1))); do names+=("worker@$slot.service"); done
  systemctl enable "${names[@]}"
  systemctl start "${names[@]}"
}

stop_deadline() { systemctl stop layoutlm-deadline.timer; }

main
