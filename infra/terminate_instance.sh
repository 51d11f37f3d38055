#!/bin/bash
# Ends this instance once no worker is left on it, or starts its workers again when there is work after all.
#
#   terminate_instance.sh SLOT   after the worker of a slot has ended (ExecStopPost of worker@SLOT)
#   terminate_instance.sh WORD   no worker came up: setup, deadline
#
# The group is lowered with it, unless there is work that this machine was taken away from. Ways out, each tried
# when the one before failed: terminate and lower the group, terminate, report as unhealthy, switch off (the launch
# template makes that a termination). A slot that works on a job keeps the machine: it ends it when it has ended.
set -uo pipefail  # no -e: a way out that fails leads to the next one

root=${DESTDIR:-}
run=$root/run/layoutlm-end  # root's own: nothing is written where a worker could have put a link
told=$root/run/layoutlm  # by workers
workers=$told/workers  # where they register: receipt_layoutlm/worker/host/registry.py
slot=$1
patience=${LAYOUTLM_DRAIN_SECONDS:-30}  # for idle workers to end

main() {
  [ "$(systemctl is-system-running)" = stopping ] && say "the machine is going down anyway" && return 0
  mkdir -p "$run" && touch "$run/asked-$slot"
  why=$(how_it_ended)
  exec 9>"$run/ending.lock"
  flock --wait 30 9 || { say "another slot decides" && return 0; }
  [ -e "$run/ending" ] && say "it is being ended already" && return 0
  [ "$run/started" -nt "$run/asked-$slot" ] && say "the workers were started again" && return 0
  say "why: $why"
  drain_others
  if [ -n "$(running_slots)" ]; then
    say "left to the slots that run: $(running_slots)"
    [ "$why" = idle ] && start_slots
    return 0
  fi
  if [ "$why" = idle ] && has_work && ! resumed_in_vain; then
    say "there is work again"
    touch "$run/resumed"
    start_slots
    return 0
  fi
  end_instance "$(group_size)"
}

say() { echo "terminate_instance ($slot): $*"; }

slots() { seq 0 $((${LAYOUTLM_SLOTS:-1} - 1)); }

# Every one that does not run: those that ended with this one have to work on as well.
start_slots() {
  local each running
  touch "$run/started"  # first: a slot that ends after the next line is started by its own script
  running=$(running_slots)
  for each in $(slots); do
    grep -qx "$each" <<<"$running" || systemctl start --no-block "worker@$each.service"
  done
}

# What the worker left behind when it ended in order; without that it crashed. One that was asked to end because
# another had nothing to do is idle, too, even if it took a job at that very moment and has ended after it.
how_it_ended() {
  case $slot in *[!0-9]*) echo "$slot" && return ;; esac
  local word
  word=$(head -c 20 "$told/ended-$slot" 2>/dev/null)
  [ "$word" = drained ] && [ -e "$run/idle-$slot" ] && word=idle
  rm -f "$told/ended-$slot" "$run/idle-$slot"
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

# The others take no more jobs. One that waits for a job ends at once; one that has a job is not waited for, and it
# goes on to the next job when this slot only had nothing to do.
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

# A queue that cannot be asked holds no work for this machine.
has_work() {
  [ "$(timeout 15 runuser --user layoutlm -- "$root/opt/layoutlm/venv/bin/layoutlm-cli" worker peek | tail -n 1)" = claimable ]
}

# Since the last look no job was claimed: what waits is not for these workers.
resumed_in_vain() { [ -e "$run/resumed" ] && ! [ "$workers/claimed" -nt "$run/resumed" ]; }

# Whether a machine has to come in place of this one.
group_size() {
  case $why in
    "crashed after a claim") echo stays ;;
    leaving) if has_work; then echo stays; else echo shrinks; fi ;;
    *) echo shrinks ;;
  esac
}

end_instance() {
  local instance
  say "ending the instance; the group $1"
  touch "$run/ending"
  shutdown -h +5  # in case that what follows is accepted and never done, or that this script is ended
  instance=$(cat "$root/var/lib/cloud/data/instance-id")
  group set-instance-protection --instance-ids "$instance" --auto-scaling-group-name "${LAYOUTLM_GROUP:-}" \
    --no-protected-from-scale-in
  if [ "$1" = shrinks ]; then
    group terminate-instance-in-auto-scaling-group --instance-id "$instance" --should-decrement-desired-capacity && return
  fi
  group terminate-instance-in-auto-scaling-group --instance-id "$instance" --no-should-decrement-desired-capacity && return
  group set-instance-health --instance-id "$instance" --health-status Unhealthy --no-should-respect-grace-period && return
  say "nobody answers: switching off"
  shutdown -h now
}

# One call to the group, tried again unless it was refused.
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
