#!/bin/bash
# User data of a worker machine: deadline, settings, bundle. The stack substitutes the variables in braces.
set -Eeuo pipefail
root=$(printenv DESTDIR || true)  # empty on a machine; set by tests
etc=$root/etc/layoutlm opt=$root/opt/layoutlm units=$root/etc/systemd/system
mkdir -p "$etc" "$opt" "$units"

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
aws --region '${AWS::Region}' autoscaling terminate-instance-in-auto-scaling-group --should-decrement-desired-capacity \
  --instance-id "$(cat "$root/var/lib/cloud/data/instance-id")" || shutdown -h now
END
chmod 755 "$opt/end.sh"

# restarts at each boot: a reboot during this script would otherwise leave an idle machine
cat >"$units/layoutlm-deadline.timer" <<'END'
[Unit]
Description=Deadline for the worker to become ready
[Timer]
OnActiveSec=10min
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

cat >"$etc/worker.env" <<'END'
AWS_REGION='${AWS::Region}'
DYNAMO_TABLE_NAME='${TableName}'
LAYOUTLM_TRAINING_BUCKET='${BucketName}'
LAYOUTLM_FLEET='${FleetName}'
LAYOUTLM_GROUP='${Group}'
LAYOUTLM_QUEUE='${Queue}'
LAYOUTLM_SLOTS='${Slots}'
LAYOUTLM_ONDEMAND_AFTER='${MovesAfter}'
LAYOUTLM_PRICES='${PriceTable}'
LAYOUTLM_BUNDLE='${BundleSha256}'
LAYOUTLM_BUCKET_OWNER='${BucketOwner}'
LAYOUTLM_DRAIN_AFTER_DAYS='${DrainAfterDays}'
END
idle=$(printf '%.0f' '${IdleMinutes}')  # the parameter may be a fraction
echo "LAYOUTLM_IDLE_SECONDS='$((idle * 60))'" >>"$etc/worker.env"

if [ ! -d "$opt/${BundleSha256}" ]; then
  for wait in 2 4 8 16 32 0; do  # the permissions of a new instance may be delayed
    aws --region '${AWS::Region}' s3 cp --no-progress 's3://${BucketName}/wheels/${BundleSha256}.tar.gz' "$opt/bundle" && break
    sleep $wait
  done
  echo "${BundleSha256}  $opt/bundle" | sha256sum --check --strict --quiet
  rm -rf "$opt/new" && mkdir "$opt/new"
  tar -xzf "$opt/bundle" --no-same-owner -C "$opt/new"
  mv "$opt/new" "$opt/${BundleSha256}"
fi
ln -sfn "${BundleSha256}" "$opt/current"
bash "$opt/current/bootstrap.sh"
