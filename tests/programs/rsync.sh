#!/bin/bash
# rsync of this repository to the mount, onto itself with changes, and back; nothing may differ by content or metadata.
. "$(dirname "$0")/common.sh"
need git rsync
clone_of_this "$WORK/source"
cd "$WORK"
ln source/README.md source/hard-link
ln -s nowhere source/dangling
truncate -s 10M source/sparse
printf end >>source/sparse
chmod 4750 source/hard-link
setfattr -n user.colour -v red source/README.md 2>/dev/null || true

same() {  # FROM TO
  rsync -aHXnc --delete --itemize-changes "$1/" "$2/" >"$WORK/out"
  [ ! -s "$WORK/out" ] || die "$1 and $2 differ: $(head -5 "$WORK/out")"
  diff -r --no-dereference "$1" "$2" >"$WORK/out" || die "$1 and $2 differ: $(head -5 "$WORK/out")"
}

for round in $(seq "$(by_length 1 10)"); do
  step "to the mount"
  rsync -aHXS --delete source/ "$MNT/copy/"
  same source "$MNT/copy"
  [ "$(stat -c %h "$MNT/copy/hard-link")" = 2 ] || die "hard links are copies"
  [ "$(stat -c %b "$MNT/copy/sparse")" -lt 1024 ] || die "a sparse file is not sparse"

  step "changes, in place and by renaming"
  find source -name '*.cc' | sort | sed -n 1,50p | while read -r f; do echo "// $round" >>"$f"; done
  find source -name '*_test.cc' | sort | sed -n 1,20p | xargs -r rm -f
  printf x | dd of=source/sparse bs=1 seek=5000000 conv=notrunc status=none
  rsync -aHX --inplace --no-whole-file --delete source/ "$MNT/copy/"
  same source "$MNT/copy"
  find source -name '*.h' | sort | sed -n 1,50p | while read -r f; do sed -i "1s/\$/ $round/" "$f"; done
  rsync -aHX --no-whole-file --fsync --delete-after source/ "$MNT/copy/"
  same source "$MNT/copy"

  step "and back"
  rm -rf back
  rsync -aHXS "$MNT/copy/" back/
  same source back
done
