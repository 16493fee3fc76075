#!/bin/sh
# Count what is in /data, and keep the newest $KEEP reports.
set -eu
report=/reports/$(date +%Y%m%d-%H%M%S).txt
{
  echo "files: $(find /data -type f | wc -l)"
  echo "bytes: $(find /data -type f -exec cat {} + | wc -c)"
} > "$report"
ls -1 /reports | head -n "-$KEEP" | while read -r old; do rm "/reports/$old"; done
cat "$report"
