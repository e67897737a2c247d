#!/bin/sh
# An agent with nothing but a shell and curl.
#
#   sh curl-agent.sh COMMAND [ARGUMENT…]
#
# It registers, claims one task after the other by long polls, gives each task's payload (JSON)
# to COMMAND on standard input, and hands in what that prints as the result. A command that
# fails makes the attempt fail. While it runs, the lease is renewed. SIGTERM or Ctrl-C: the task
# in hand is finished, then the agent leaves.
#
#   CALLBOARD_COORDINATOR   http://127.0.0.1:9001
#   CALLBOARD_API_KEY       none, as on one's own machine
#   AGENT, KINDS            its name, curl-agent; the kinds of task it does, apart by spaces
#   LEASE                   seconds until a silent agent's task goes to others, 30

set -u
[ $# -gt 0 ] || { echo "usage: curl-agent.sh COMMAND [ARGUMENT...]" >&2; exit 2; }

base=${CALLBOARD_COORDINATOR:-http://127.0.0.1:9001}
agent=${AGENT:-curl-agent}
lease=${LEASE:-30}
kinds=$(printf '%s' "${KINDS:-}" | sed 's/  */","/g; s/^\(..*\)$/"\1"/')
folder=$(mktemp -d) || exit 1
stopping=0
waiting=
turn=0

# Sends JSON and prints the answer. Repeats what got no answer, or 503, for up to a minute: all
# that is sent here may be sent twice, as it has an id, a fence or a request id.
send() { # verb path body [seconds]
    if [ -n "${CALLBOARD_API_KEY:-}" ]; then
        # By a file: anybody may read a process's arguments.
        printf 'header = "Authorization: Bearer %s"\n' "$CALLBOARD_API_KEY"
    fi | curl -sS --fail-with-body --config - --max-time "${4:-20}" \
        --retry 10 --retry-connrefused --retry-max-time 60 \
        -X "$1" "$base$2" -H 'content-type: application/json' -d "$3"
}

# The text on standard input as a string of JSON.
quoted() {
    tr -d '\000-\010\013\014\016-\037' |
        sed 's/\\/\\\\/g; s/"/\\"/g; s/	/\\t/g' |
        awk 'NR > 1 { printf "\\n" } { sub(/\r$/, "\\r"); printf "%s", $0 }
             BEGIN { printf "\"" } END { printf "\"" }'
}

stop() {
    stopping=1
    # A request that only waits is cut off; what it was just given goes back by itself.
    [ -z "$waiting" ] || kill "$waiting" 2>/dev/null
}
trap stop TERM INT
trap 'rm -rf "$folder"' EXIT

work() { # id fence payload command…
    id=$1 fence=$2
    printf '%s' "$3" >"$folder/payload"
    shift 3
    "$@" <"$folder/payload" >"$folder/result" 2>"$folder/error" &
    command=$!
    (
        while sleep "$((lease / 3 + 1))"; do
            send POST "/tasks/$id/renew" "{\"fence\":$fence,\"lease\":$lease,\"agent\":\"$agent\"}" \
                >/dev/null || kill "$command"  # The task is another's now.
        done
    ) >/dev/null 2>&1 &
    renewing=$!
    # A signal ends the wait, not the command.
    while :; do
        wait "$command"
        code=$?
        kill -0 "$command" 2>/dev/null || break
    done
    kill "$renewing" 2>/dev/null
    if [ "$code" -eq 0 ]; then
        body="{\"fence\":$fence,\"result\":$(quoted <"$folder/result")}"
        send POST "/tasks/$id/complete" "$body" >/dev/null && echo "$id: done"
    else
        body="{\"fence\":$fence,\"error\":$(tail -c 2000 "$folder/error" | quoted)}"
        send POST "/tasks/$id/fail" "$body" >/dev/null && echo "$id: failed with $code"
    fi
}

send PUT "/agents/$agent" "{\"kinds\":[$kinds],\"max_concurrent\":1}" >/dev/null || exit 1
echo "Agent $agent waits for tasks."

while [ "$stopping" -eq 0 ]; do
    turn=$((turn + 1))
    body="{\"agent\":\"$agent\",\"lease\":$lease,\"poll\":30,\"request_id\":\"$agent-$$-$turn\"}"
    send POST /tasks/claim "$body" 50 >"$folder/claim" &
    waiting=$!
    wait "$waiting"
    code=$?
    waiting=
    [ "$stopping" -eq 0 ] || break
    if [ "$code" -ne 0 ]; then
        cat "$folder/claim" >&2
        sleep 1
        continue
    fi
    # Two lines: what the coordinator says of the task, and its payload with what follows. Only
    # the first names the task: the payload may say what it likes.
    tr -d '\n\r' <"$folder/claim" | sed 's/"payload":/\
/' >"$folder/task"
    id=$(sed -n '1s/.*"tasks":\[{"id":"\([^"]*\)".*/\1/p' "$folder/task")
    [ -n "$id" ] || continue
    fence=$(sed -n '1s/.*"fence":\([0-9]*\).*/\1/p' "$folder/task")
    payload=$(sed -n '2s/\(.*\),"agent":".*/\1/p' "$folder/task")
    work "$id" "$fence" "$payload" "$@"
done

send POST "/agents/$agent/leave" '{}' >/dev/null
echo "Agent $agent has left."
