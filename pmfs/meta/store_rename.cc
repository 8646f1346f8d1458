// StoreImpl: rename, with its two flags.
#include "pmfs/meta/names.h"
#include "pmfs/meta/store_impl.h"

namespace pmfs::meta {

// `ino` must not be `dir` nor above it.
void StoreImpl::check_not_above(Ino ino, Ino dir, std::string_view name) const {
  for (Ino up = dir;; up = Ino{inodes_.get(up)->parent}) {
    if (up == ino) fail(EINVAL, "{}: a directory can't be moved into itself", name);
    if (up == kRootIno) return;
  }
}

std::optional<Unlinked> StoreImpl::rename(Ino sdir, std::string_view sname, Ino ddir, std::string_view dname,
                                          uint32_t flags, const Credentials& who, const Claim& claim) {
  if (flags > kRenameExchange) fail(EINVAL, "{}: rename flags {:#x} are unknown or contradict each other", sname, flags);
  const bool swap = flags == kRenameExchange;
  check_name(sname);
  check_name(dname);
  WriterLock l(meta_mu_);
  InodeMedia* sp = directory(sdir);
  InodeMedia* dp = directory(ddir);
  check_alive(dp, ddir);
  Directory sd(m_, sp), dd(m_, dp);
  auto from = sd.find(sname), to = dd.find(dname);
  if (!from) fail(ENOENT, "{}: no such file", sname);
  if (swap && !to) fail(ENOENT, "{}: no such file", dname);
  if (flags == kRenameNoReplace && to) fail(EEXIST, "{}: exists already", dname);
  InodeMedia* i = inodes_.get(from->ino);
  InodeMedia* old = to ? inodes_.get(to->ino) : nullptr;
  if (old == i) return std::nullopt;  // two names of one inode: POSIX wants nothing done
  check_sticky(sp, i, sname, who);
  if (old != nullptr) check_sticky(dp, old, dname, who);
  check_project(dp, i, sname);
  if (swap) check_project(sp, old, dname);
  if (is_dir(i)) check_not_above(from->ino, ddir, sname);
  if (swap && is_dir(old)) check_not_above(to->ino, sdir, dname);
  if (old != nullptr && !swap) {
    if (is_dir(i) && !is_dir(old)) fail(ENOTDIR, "{}: not a directory", dname);
    if (!is_dir(i) && is_dir(old)) fail(EISDIR, "{}: is a directory", dname);
    if (is_dir(old) && !Directory(m_, old).empty()) fail(ENOTEMPTY, "{}: directory not empty", dname);
  }
  if (sdir != ddir) {  // ".." of a directory that moves is one more link of the new parent
    bool there = old != nullptr && is_dir(old);
    if (is_dir(i) && !there) check_link_count(dp, dname);
    if (swap && there && !is_dir(i)) check_link_count(sp, sname);
  }
  const uint32_t old_mode = old != nullptr ? old->mode : 0;
  const bool free = old != nullptr && !swap && goes_at_once(to->ino, old, claim);
  // Crash before: the old names. After: the new one only, and what it stood for lost a link, or is free as in remove(); of
  // an exchange: both names, each for what the other one meant.
  run(Kind::kNeeded, [&] {
    {
      transaction::together all;
      snapshot_hot(sp);
      snapshot_hot(dp);
      snapshot_inode(i);
      if (!to) dd.snapshot_insert(dname);
      if (!swap) sd.snapshot_erase(*from);
    }
    const int64_t now = now_ns();
    if (to)
      dd.set(*to, from->ino);
    else
      dd.insert(dname, from->ino);
    if (swap)
      sd.set(*from, to->ino);
    else
      sd.erase(*from);
    if (is_dir(i) && sdir != ddir) {
      --sp->nlink;
      ++dp->nlink;
      i->parent = to_u64(ddir);
    }
    if (swap) {
      snapshot_inode(old);
      old->ctime_ns = now;
      if (is_dir(old) && sdir != ddir) {
        --dp->nlink;
        ++sp->nlink;
        old->parent = to_u64(sdir);
      }
    } else if (old != nullptr) {
      drop_name(dp, to->ino, old, free);
    }
    i->ctime_ns = now;
    touch(sp, now);
    touch(dp, now);
  });
  if (old == nullptr || swap) return std::nullopt;
  return Unlinked{to->ino, old->nlink == 0, old_mode, free};
}

}  // namespace pmfs::meta
