#!/bin/bash
# Terminates this instance when no worker is left on it, or restarts its workers when jobs are waiting.
#
#   terminate_instance.sh SLOT   after the worker of a slot has ended (ExecStopPost of worker@SLOT)
#   terminate_instance.sh WORD   no worker was started: setup, deadline
#
# The group's capacity is lowered too, unless jobs are waiting for a replacement. Each fallback is tried when the one
# before failed: terminate and lower the capacity, terminate, report as unhealthy, shut down (which the launch template
# makes a termination). A slot with a job keeps the machine, and runs this script when it has ended.
set -uo pipefail  # no -e: a failed request leads to the next fallback

root=${DESTDIR:-}
run=$root/run/layoutlm-end  # owned by root: a worker could have placed a symlink elsewhere
state=$root/run/layoutlm  # written by workers
workers=$state/workers  # running workers register here: receipt_layoutlm/worker/host/registry.py
slot=$1
patience=${LAYOUTLM_DRAIN_SECONDS:-30}  # for idle workers to exit

main() {
  [ "$(systemctl is-system-running)" = stopping ] && say "the machine is shutting down" && return 0
  mkdir -p "$run" && touch "$run/asked-$slot"
  why=$(how_it_ended)
  exec 9>"$run/ending.lock"
  flock --wait 30 9 || { say "another slot is deciding" && return 0; }
  [ -e "$run/ending" ] && say "termination is in progress" && return 0
  [ "$run/started" -nt "$run/asked-$slot" ] && say "the workers were restarted" && return 0
  say "reason: $why"
  drain_others
  if [ -n "$(running_slots)" ]; then
    say "other slots are running: $(running_slots)"
    [ "$why" = idle ] && start_slots
    return 0
  fi
  if [ "$why" = idle ] && has_work && ! resumed_in_vain; then
    say "jobs are waiting"
    touch "$run/resumed"
    start_slots
    return 0
  fi
  end_instance "$(group_size)"
}

say() { echo "terminate_instance ($slot): $*"; }

slots() { seq 0 $((${LAYOUTLM_SLOTS:-1} - 1)); }

# Starts all slots that are not running, including those that ended together with this one.
start_slots() {
  local each running
  touch "$run/started"  # first: a slot that ends after the next line is restarted by its own run of this script
  running=$(running_slots)
  for each in $(slots); do
    grep -qx "$each" <<<"$running" || systemctl start --no-block "worker@$each.service"
  done
}

# The reason that the worker wrote when it exited; without one it crashed. A worker that was drained because another one
# was idle counts as idle, too, even if it claimed a job at that moment and exited after it.
how_it_ended() {
  case $slot in *[!0-9]*) echo "$slot" && return ;; esac
  local word
  word=$(head -c 20 "$state/ended-$slot" 2>/dev/null)
  [ "$word" = drained ] && [ -e "$run/idle-$slot" ] && word=idle
  rm -f "$state/ended-$slot" "$run/idle-$slot"
  case $word in
    idle | drained | stopped | leaving) echo "$word" ;;
    *) if [ -e "$workers/claimed" ]; then echo "crashed after a claim"; else echo "crashed before any claim"; fi ;;
  esac
}

main_pid() { systemctl show --property MainPID --value "worker@$1.service"; }

running_slots() {
  local each pid
  for each in $(slots); do
    [ "$each" = "$slot" ] && continue
    pid=$(main_pid "$each")
    [ "${pid:-0}" = 0 ] || echo "$each"
  done
}

is_busy() { grep -qs '"busy":true' "$workers/$(main_pid "$1").json"; }

# Drains the other slots. Those without a job exit at once. Those with a job are not waited for, and are not drained if
# this slot was only idle.
drain_others() {
  local each waited=0 idle
  for each in $(running_slots); do
    if [ "$why" = idle ]; then
      is_busy "$each" && continue
      touch "$run/idle-$each"
    fi
    systemctl kill --kill-who=main --signal=SIGUSR1 "worker@$each.service"
  done
  while [ "$waited" -lt "$patience" ]; do
    idle=""
    for each in $(running_slots); do is_busy "$each" || idle=$each; done
    [ -z "$idle" ] && return
    sleep 1
    waited=$((waited + 1))
  done
}

# An unreadable queue counts as empty.
has_work() {
  [ "$(timeout 15 runuser --user layoutlm -- "$root/opt/layoutlm/venv/bin/layoutlm-cli" worker peek | tail -n 1)" = claimable ]
}

# No job was claimed since the last restart: the waiting jobs are not for these workers.
resumed_in_vain() { [ -e "$run/resumed" ] && ! [ "$workers/claimed" -nt "$run/resumed" ]; }

# Whether the group has to replace this machine.
group_size() {
  case $why in
    "crashed after a claim") echo stays ;;
    leaving) if has_work; then echo stays; else echo shrinks; fi ;;
    *) echo shrinks ;;
  esac
}

end_instance() {
  local instance
  say "terminating the instance; the group $1"
  touch "$run/ending"
  shutdown -h +5  # fallback, should a request be accepted and not carried out, or this script be killed
  instance=$(cat "$root/var/lib/cloud/data/instance-id")
  group set-instance-protection --instance-ids "$instance" --auto-scaling-group-name "${LAYOUTLM_GROUP:-}" \
    --no-protected-from-scale-in
  if [ "$1" = shrinks ]; then
    group terminate-instance-in-auto-scaling-group --instance-id "$instance" --should-decrement-desired-capacity && return
  fi
  group terminate-instance-in-auto-scaling-group --instance-id "$instance" --no-should-decrement-desired-capacity && return
  group set-instance-health --instance-id "$instance" --health-status Unhealthy --no-should-respect-grace-period && return
  say "all requests failed: shutting down"
  shutdown -h now
}

# One request to the group, retried unless it was refused.
group() {
  local wait answer
  for wait in 1 2 4 0; do
    answer=$(aws --region "${AWS_REGION:-}" --cli-connect-timeout 3 --cli-read-timeout 10 autoscaling "$@" 2>&1) && return
    say "$1: $answer"
    case $answer in *"(ValidationError)"* | *"(AccessDenied)"*) return 1 ;; esac
    sleep "$wait"
  done
  return 1
}

settings=$root/etc/layoutlm/worker.env
# shellcheck source=/dev/null
[ -r "$settings" ] && set -a && . "$settings" && set +a
main
