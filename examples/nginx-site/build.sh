#!/bin/sh
# build.sh TITLE PAGES OUTPUT: one HTML page for each text, whose first line is its heading, and an index of them.
set -eu
title=$1 pages=$2 output=$3
mkdir -p "$output"

page() {
  sed -e "s|@TITLE@|$title|" -e "s|@HEADING@|$1|" -e '/@BODY@/{r /dev/stdin
d}' template.html
}

for text in "$pages"/*.txt; do
  name=$(basename "$text" .txt)
  heading=$(head -n 1 "$text")
  tail -n +2 "$text" | sed 's|^..*$|<p>&</p>|' | page "$heading" > "$output/$name.html"
  echo "<li><a href=\"$name.html\">$heading</a></li>"
done > "$output/.list"
{ echo "<ul>"; cat "$output/.list"; echo "</ul>"; } | page "$title" > "$output/index.html"
rm "$output/.list"
