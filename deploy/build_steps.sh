# shellcheck shell=bash
# Sourced by tests/run, deploy/quickstart and deploy/local, from the repository's root: steps with a
# line and a time each, Debian packages, a build.

# step NAME COMMAND...: runs COMMAND, with a line before it and the seconds after it.
step() {
  local name="$1" start=$SECONDS status=0
  shift
  echo "== $name"
  "$@" || status=$?
  if ((status != 0)); then
    echo "== $name: failed after $((SECONDS - start)) s" >&2
    exit "$status"
  fi
  echo "   done in $((SECONDS - start)) s"
}

# install_packages [FILE]: what of tools/debian_packages.txt and of FILE, another such list, is missing;
# needs root (or sudo without a password) only then.
install_packages() {
  local wanted missing=() package root=()
  mapfile -t wanted < <(grep -hv '^#' tools/debian_packages.txt "$@")
  for package in "${wanted[@]}"; do
    if [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then
    echo "   all there"
    return 0
  fi
  if (($(id -u) != 0)); then
    if ! sudo -n true 2>/dev/null; then
      echo "these packages are missing and this user may not install them; run as root:" >&2
      echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
      return 77
    fi
    root=(sudo -n)
  fi
  echo "   installing ${missing[*]}"
  local log
  log="$(mktemp)"
  if ! { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# Compile jobs: one a core, and 2 GB of free memory each.
build_jobs() {
  local cores free_gb
  cores="$(nproc)"
  free_gb="$(awk '/^MemAvailable:/ {print int($2 / 1048576)}' /proc/meminfo)"
  local jobs=$((free_gb / 2 < cores ? free_gb / 2 : cores))
  echo $((jobs > 1 ? jobs : 1))
}

# build PRESET [TARGET...]: configures and builds; ninja's output goes to build/PRESET/build.log, its
# progress to the terminal every 15 s, and the end of the log too where it fails.
build() {
  local preset="$1" folder="build/$1" next=$((SECONDS + 15)) line targets=()
  shift
  (($# == 0)) || targets=(--target "$@")
  mkdir -p "$folder"
  if ! cmake --preset "$preset" >"$folder/configure.log" 2>&1; then
    tail -n 30 "$folder/configure.log" >&2
    return 1
  fi
  grep -E '^-- CUDA:' "$folder/configure.log" || true
  local status=0
  cmake --build "$folder" -j "$(build_jobs)" "${targets[@]}" 2>&1 | tee "$folder/build.log" |
    while IFS= read -r line; do
      if [[ "$line" == \[* ]] && ((SECONDS >= next)); then
        echo "   ${line%% *}"
        next=$((SECONDS + 15))
      fi
    done || status=$?
  if ((status != 0)); then
    grep -A 40 '^FAILED:' "$folder/build.log" | head -n 80 >&2 || tail -n 40 "$folder/build.log" >&2
    echo "the whole log: $folder/build.log" >&2
  fi
  return "$status"
}
