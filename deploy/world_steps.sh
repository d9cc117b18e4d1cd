# shellcheck shell=bash
# Sourced by deploy/quickstart and deploy/local: one world and its router as child processes, each in a
# session of its own (so that Ctrl-C reaches the script alone) and ended with the script, whatever ends
# it. The caller sets bin (folder of the binaries) before it calls start_world.

run_folder="" world_pid="" router_pid="" router_address=""

# start_child LOG COMMAND...: starts COMMAND in the background; its pid is in child_pid.
start_child() {
  local log="$1"
  shift
  TMPDIR="$run_folder" setsid setpriv --pdeathsig TERM "$@" >"$log" 2>&1 </dev/null &
  child_pid=$!
}

is_alive() {
  [[ -n "$1" ]] && kill -0 "$1" 2>/dev/null
}

# await_file FILE PID NAME LOG: waits until PID wrote FILE; fails with the end of LOG where PID ended.
await_file() {
  local file="$1" pid="$2" name="$3" log="$4"
  while [[ ! -s "$file" ]]; do
    if ! is_alive "$pid"; then
      echo "the $name ended while it started; the end of its log $log:" >&2
      tail -n 20 "$log" >&2
      return 1
    fi
    if ! is_alive "$world_pid"; then
      echo "the world ended while the $name started; the end of its log $run_folder/world.log:" >&2
      tail -n 20 "$run_folder/world.log" >&2
      return 1
    fi
    sleep 0.1
  done
}

# start_world MODEL RANKS ROUTER_PORT [WORKER FLAG...]: sets router_address when both are ready.
start_world() {
  local model="$1" ranks="$2" port="$3"
  shift 3
  run_folder="$(mktemp -d /tmp/deltaserve-XXXXXX)"
  start_child "$run_folder/world.log" deploy/mpirun_one_host -n "$ranks" \
    -wdir "${caller_folder:-$PWD}" "$bin/deltaserve-worker" \
    --model "$model" --listen 127.0.0.1:0 --address-file "$run_folder/world.address" "$@"
  world_pid=$child_pid
  await_file "$run_folder/world.address" "$world_pid" world "$run_folder/world.log" || return 1
  start_child "$run_folder/router.log" "$bin/deltaserve-router" \
    --world "$(<"$run_folder/world.address")" --listen "127.0.0.1:$port" \
    --address-file "$run_folder/router.address"
  router_pid=$child_pid
  await_file "$run_folder/router.address" "$router_pid" router "$run_folder/router.log" || return 1
  router_address="$(<"$run_folder/router.address")"
}

# end_child PID SIGNAL SECONDS NAME: asks by SIGNAL, then, after SECONDS, by TERM and by KILL.
end_child() {
  local pid="$1" signal="$2" seconds="$3" name="$4" end
  for signal in "$signal" TERM KILL; do
    is_alive "$pid" || break
    kill -s "$signal" "$pid" 2>/dev/null || true
    end=$((SECONDS + seconds))
    while is_alive "$pid" && ((SECONDS < end)); do
      sleep 0.1
    done
    if is_alive "$pid"; then
      echo "the $name did not end within $seconds s of SIG$signal" >&2
    fi
    seconds=5
  done
  local status=0
  wait "$pid" 2>/dev/null || status=$?
  return "$status"
}

# Drains router, then world: both finish what runs. Removes the logs where all ended well.
stop_world() {
  local router_status=0 world_status=0
  if [[ -n "$router_pid" ]]; then
    end_child "$router_pid" TERM 40 router || router_status=$?
    router_pid=""
  fi
  if [[ -n "$world_pid" ]]; then
    end_child "$world_pid" USR1 40 world || world_status=$?
    world_pid=""
  fi
  if ((router_status != 0 || world_status != 0)); then
    echo "router ended with code $router_status, world with $world_status; logs: $run_folder" >&2
    return 1
  fi
  [[ -z "$run_folder" ]] || rm -rf "$run_folder"
}
