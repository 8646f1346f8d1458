// Acked mode: what replaces the zap where the kernel can't be asked for it, and what follows it where read-only clients map a
// gated volume's files: the zap has taken their PTEs too, but the kernel would resolve their next fault without us.
//
//   invalidate  exclusion over the pages -> transaction (blocks join the deferred-free list) -> i_size -> (gated: zap) ->
//               revokes are posted -> lock entries out, exclusion left -> ... the clients answer -> (gated: zap: a load
//               meanwhile has mapped a fresh page of zeros) -> blocks back to the allocator
//
// Between the transaction and the last answer the blocks are quarantined: neither the file's nor free. A client that has
// not answered yet may load from them and store to them; that is a load or store that raced with the operation, which has
// not returned to its caller (Quarantine::when_idle). What a client stores there is in no file.
//
// Blocks that move, or are to be shared, can't be handled so: a store through an old VMA would go to a block that is at
// another place of the file by then. There the clients let go first, and the operation begins again (MustWait); it goes on
// when it has the pages excluded and finds nobody there.
//
// Zeros of holes are not blocks: each client's sentinel has pages for them, write-protected, and dropping those needs no answer.

#include <algorithm>
#include <cerrno>

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

// With the pages excluded: may anybody have blocks of the file mapped directly? Who hangs up is a stranger before its mappings
// end, and one who comes back has mappings before it is no stranger any more.
bool MountedVolume::must_ask(const Inode& i) const {
  if (!gated()) return true;
  if (!options_.ask_readers) return false;
  return direct_strangers_.load() != 0 || i.direct_mappings.load() != 0 || direct_strangers_.load() != 0;
}

// With the pages excluded. Crash before the last answer: the next mount finds the blocks on the deferred-free list, and who
// of the clients lives.
void MountedVolume::hold(Inode& i, PageRange whole, Stuck s) {
  auto h = quarantine_.begin(i.ino, [this, s = std::move(s)]() mutable { retire(std::move(s)); });
  keep_for_strangers(h);  // before the look at the holders: one may come back and be none of either else
  for (const auto& holder : i.pte_holders()) holder->revoke(whole, h);
  // Who ends meanwhile is a stranger before its queue of commands is closed: asked, or seen here.
  keep_for_strangers(h);
}

// Everybody has let go. Maybe with locks held: no more than to leave the rest to settle().
void MountedVolume::retire(Stuck s) {
  PMFS_PAUSE_POINT("acked:answered");
  const bool forgotten = try_zap(s, Zap::kLast);
  if (forgotten) unsettled_.fetch_add(1);
  MutexLock l(stuck_mutex_);
  (forgotten ? zapped_ : stuck_).push_back(std::move(s));
}

void MountedVolume::answered() {
  settle();
  freed();
}

// With the pages excluded: nobody has a block of `r` mapped when it returns. Throws MustWait if somebody had; EAGAIN under
// kNoWait.
void MountedVolume::release_direct(Inode& i, PageRange r, Wait wait) {
  i.drop_zeros(r);
  auto h = quarantine_.begin(i.ino, nullptr);
  bool any = false;
  for (const auto& holder : i.pte_holders()) any = holder->revoke(r, h) || any;
  if (!any) return;
  if (wait == Wait::kNoWait) fail(EAGAIN, "inode {}: clients have pages of it mapped; they are asked to let go", to_u64(i.ino));
  throw MustWait{i.ino};
}

void MountedVolume::keep_for_strangers(std::shared_ptr<const void> keep) {
  MutexLock l(strangers_mutex_);
  if (direct_strangers_.load() != 0) strangers_keep_.push_back(std::move(keep));
}

std::vector<std::shared_ptr<const void>> MountedVolume::strangers_keep() {
  MutexLock l(strangers_mutex_);
  return strangers_keep_;
}

void MountedVolume::estrange(uint64_t life, std::shared_ptr<const UniqueFd> pidfd, int64_t now_ns) {
  MutexLock l(strangers_mutex_);
  if (!locks_->held(life)) return;
  strangers_.push_back({life, true, std::move(pidfd), now_ns});
  direct_strangers_.fetch_add(1);
}

size_t MountedVolume::fence_strangers(int64_t older_than_ns) {
  std::vector<Stranger> due;
  {
    MutexLock l(strangers_mutex_);
    if (strangers_keep_.empty()) return 0;
    for (Stranger& s : strangers_) {
      if (s.fenced || !s.direct || s.since_ns > older_than_ns) continue;
      s.fenced = true;
      due.push_back(s);
    }
  }
  const auto kill_by = [](const UniqueFd& pidfd) {
    return pidfd && ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0) == 0;
  };
  size_t n = 0;
  for (const Stranger& s : due) {
    if (s.pidfd) {
      n += kill_by(*s.pidfd);
      continue;
    }
    for (pid_t pid : locks_->holders(s.life)) {
      const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
      // It still holds the lock now that the number can't become another process'.
      const auto again = locks_->holders(s.life);
      if (pid != ::getpid() && std::find(again.begin(), again.end(), pid) != again.end()) n += kill_by(pidfd);
    }
  }
  return n;
}

}  // namespace pmfs
