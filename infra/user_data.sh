#!/bin/bash
# A worker machine's first minutes: a deadline, its settings, its bundle. Braces after a dollar: filled in by the stack.
set -Eeuo pipefail
root=$(printenv DESTDIR || true)  # empty on a machine; tests run this below a folder
etc=$root/etc/layoutlm opt=$root/opt/layoutlm units=$root/etc/systemd/system
mkdir -p "$etc" "$opt" "$units"

# whatever fails from here on ends the machine, and lowers the group, so that nothing broken is started again and again
trap '[ $? = 0 ] || "$opt/end.sh" setup || shutdown -h now' EXIT
cat >"$opt/end.sh" <<'END'
#!/bin/bash
# Ends a machine that did not become a worker.
root=$(printenv DESTDIR || true)
if [ -x "$root/opt/layoutlm/current/terminate_instance.sh" ]; then
  exec "$root/opt/layoutlm/current/terminate_instance.sh" "$1"
fi
shutdown -h +5  # in case that what follows is accepted and never done
aws --region '${AWS::Region}' autoscaling terminate-instance-in-auto-scaling-group --should-decrement-desired-capacity \
  --instance-id "$(cat "$root/var/lib/cloud/data/instance-id")" || shutdown -h now
END
chmod 755 "$opt/end.sh"

# counts again after each boot: a reboot in the middle of this script would else leave a machine that does nothing
cat >"$units/layoutlm-deadline.timer" <<'END'
[Unit]
Description=Ten minutes for the worker to become ready
[Timer]
OnActiveSec=10min
AccuracySec=1s
[Install]
WantedBy=timers.target
END
cat >"$units/layoutlm-deadline.service" <<'END'
[Unit]
Description=End this machine unless a worker is ready
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
END
idle=$(printf '%.0f' '${IdleMinutes}')  # the stack takes fractions, arithmetic does not
echo "LAYOUTLM_IDLE_SECONDS='$((idle * 60))'" >>"$etc/worker.env"

if [ ! -d "$opt/${BundleSha256}" ]; then
  for wait in 2 4 8 16 32 0; do  # the rights of a new instance may take a moment to arrive
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
