#!/bin/bash
# git on the mount: this repository cloned, worked in, collected, checked.
. "$(dirname "$0")/common.sh"
need git
cd "$MNT"
export GIT_CONFIG_GLOBAL=$WORK/gitconfig HOME=$WORK
git config --global user.name t
git config --global user.email t@example.org
git config --global gc.autoDetach false
git config --global safe.directory '*'

for round in $(seq "$(by_length 1 10)"); do
  step "clone"
  clone_of_this "$MNT/r"
  cd r
  step "fsck"
  git fsck --full --strict 2>"$WORK/out" || die "fsck after clone: $(cat "$WORK/out")"
  [ -z "$(git status --porcelain)" ] || die "a fresh clone is changed: $(git status --porcelain | head -5)"

  step "branch, commit, merge, stash, rebase"
  git checkout -q -b work
  for i in 1 2 3 4 5; do
    echo "$i" >>work.txt
    git add -A
    git commit -qm "work $i"
  done
  git checkout -q -
  echo other >other.txt
  git add other.txt
  git commit -qm other
  git merge -q --no-edit work
  echo stashed >>work.txt
  git stash -q
  git stash pop -q
  grep -q stashed work.txt || die "the stash is lost"
  git checkout -q work.txt
  git worktree add -q ../w work
  git -C ../w log --oneline | wc -l | grep -q . || die "worktree"
  git worktree remove ../w

  step "repack, gc, fsck"
  git gc -q --aggressive --prune=now
  git fsck --full --strict 2>"$WORK/out" || die "fsck after gc: $(cat "$WORK/out")"
  git clone -q --no-hardlinks "$MNT/r" "$WORK/back"
  [ "$(git -C "$WORK/back" rev-parse HEAD^{tree})" = "$(git rev-parse HEAD^{tree})" ] || die "another tree comes back"
  cd ..
  rm -rf r "$WORK/back"
done
