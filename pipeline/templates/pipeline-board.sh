#!/bin/sh
# pipeline-board: what the measuring agent may do as root on this board, and nothing else.
#
#   performance   every cpufreq governor to "performance"       clocks        NVIDIA's jetson_clocks
#   nvpmodel N    NVIDIA's power model, one digit               restore       governors and clocks as they were
#   status        says what there is and what was changed
#
# Installed by `pipeline devices setup` as root:root 0755, with one sudoers line for it alone. It takes no path, no
# option and nothing from the environment, so whoever may call it can do just this.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 077
CPU=/sys/devices/system/cpu
STATE=/run/pipeline-board

governors() {
  for file in "$CPU"/cpufreq/policy*/scaling_governor; do
    if [ -e "$file" ]; then echo "$file"; fi
  done
}

# What was there before, one "governor file" a line; kept as it was first found, whatever is called twice.
remember_governors() {
  if [ -e "$STATE/governors" ]; then return; fi
  governors | while read -r file; do echo "$(cat "$file") $file"; done > "$STATE/governors.part"
  mv "$STATE/governors.part" "$STATE/governors"
}

performance() {
  if [ -z "$(governors)" ]; then echo "no cpufreq governor on this board" >&2; exit 1; fi
  remember_governors
  governors | while read -r file; do echo performance > "$file"; done
}

clocks() {
  command -v jetson_clocks >/dev/null || { echo "no jetson_clocks on this board" >&2; exit 1; }
  if [ ! -e "$STATE/clocks" ]; then jetson_clocks --store "$STATE/clocks"; fi
  jetson_clocks
}

restore() {
  if [ -e "$STATE/clocks" ]; then
    jetson_clocks --restore "$STATE/clocks"
    rm -f "$STATE/clocks"
  fi
  if [ -e "$STATE/governors" ]; then
    while read -r governor file; do
      if [ -e "$file" ]; then echo "$governor" > "$file"; fi # nvpmodel may have switched that core off
    done < "$STATE/governors"
    rm -f "$STATE/governors"
  fi
}

status() {
  governors | while read -r file; do echo "$file: $(cat "$file")"; done
  if command -v nvpmodel >/dev/null; then nvpmodel -q || true; fi
  for name in governors clocks; do
    if [ -e "$STATE/$name" ]; then echo "changed: $name"; fi
  done
}

usage() {
  echo "usage: pipeline-board performance | clocks | nvpmodel N | restore | status" >&2
  exit 2
}

# A folder that root made and nobody else can write in: /run is root's.
mkdir -p "$STATE"

case "$#:${1-}" in
  1:performance) performance ;;
  1:clocks) clocks ;;
  1:restore) restore ;;
  1:status) status ;;
  2:nvpmodel)
    case "$2" in
      [0-9]) nvpmodel -m "$2" < /dev/null ;;
      *) usage ;;
    esac ;;
  *) usage ;;
esac
