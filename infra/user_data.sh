# Prepares a worker machine: settings, deadline, bundle. The launch template puts $settings before it.
set -Eeuo pipefail
root=$(printenv DESTDIR || true)  # empty on a machine; set by tests
etc=$root/etc/layoutlm opt=$root/opt/layoutlm units=$root/etc/systemd/system
mkdir -p "$etc" "$opt" "$units"
printf '%s\n' "$settings" >"$etc/worker.env"
# shellcheck source=/dev/null
. "$etc/worker.env"

# a failure from here on terminates the machine and lowers the group, so that a broken setup is not started in a loop
trap '[ $? = 0 ] || "$opt/end.sh" setup || shutdown -h now' EXIT
cat >"$opt/end.sh" <<'END'
#!/bin/bash
# Terminates a machine whose setup failed.
root=$(printenv DESTDIR || true)
if [ -x "$root/opt/layoutlm/current/terminate_instance.sh" ]; then
  exec "$root/opt/layoutlm/current/terminate_instance.sh" "$1"
fi
shutdown -h +5  # fallback, should the request be accepted and not carried out
. "$root/etc/layoutlm/worker.env"
aws --region "$AWS_REGION" autoscaling terminate-instance-in-auto-scaling-group --should-decrement-desired-capacity \
  --instance-id "$(cat "$root/var/lib/cloud/data/instance-id")" || shutdown -h now
END
chmod 755 "$opt/end.sh"

# restarts at each boot: a reboot during this script would otherwise leave an idle machine
cat >"$units/layoutlm-deadline.timer" <<END
[Unit]
Description=Deadline for the worker to become ready
[Timer]
OnActiveSec=${LAYOUTLM_BOOT_MINUTES%.*}min
AccuracySec=1s
[Install]
WantedBy=timers.target
END
cat >"$units/layoutlm-deadline.service" <<'END'
[Unit]
Description=Terminate this machine unless a worker is ready
[Service]
Type=oneshot
ExecCondition=/bin/sh -c "! systemctl --quiet is-active 'worker@*.service'"
ExecStart=/opt/layoutlm/end.sh deadline
END
systemctl daemon-reload
systemctl enable --now layoutlm-deadline.timer

command -v aws || { echo "user data: aws is not on root's PATH, $PATH: choose an image with the AWS CLI" >&2; exit 1; }
imds() { curl -sSf --max-time 5 --retry 5 --retry-all-errors "${@:2}" "http://169.254.169.254/latest/$1"; }
token=$(imds api/token -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300')
for name in group queue; do
  value=$(imds "meta-data/tags/instance/layoutlm:$name" -H "X-aws-ec2-metadata-token: $token")
  echo "LAYOUTLM_${name^^}='$value'" >>"$etc/worker.env"
done
echo "LAYOUTLM_IDLE_SECONDS='$((${LAYOUTLM_IDLE_MINUTES%.*} * 60))'" >>"$etc/worker.env"  # it may be a fraction

if [ ! -d "$opt/$LAYOUTLM_BUNDLE" ]; then
  for wait in 2 4 8 16 32 0; do  # the permissions of a new instance may be delayed
    aws --region "$AWS_REGION" s3 cp --no-progress "s3://$LAYOUTLM_TRAINING_BUCKET/wheels/$LAYOUTLM_BUNDLE.tar.gz" "$opt/bundle" && break
    sleep $wait
  done
  echo "$LAYOUTLM_BUNDLE  $opt/bundle" | sha256sum --check --strict --quiet
  rm -rf "$opt/new" && mkdir "$opt/new"
  tar -xzf "$opt/bundle" --no-same-owner -C "$opt/new"
  mv "$opt/new" "$opt/$LAYOUTLM_BUNDLE"
fi
ln -sfn "$LAYOUTLM_BUNDLE" "$opt/current"
echo "user data: bundle unpacked $(cut -d. -f1 /proc/uptime) s after the start"
bash "$opt/current/bootstrap.sh"
