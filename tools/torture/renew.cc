// New incarnations of a file (unlink and create, rename over), and forked children.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include <fmt/format.h>

#include "pmfs/error.hpp"
#include "tools/torture/worker.h"

namespace torture {

namespace {
constexpr uint64_t kChildBoundNs = 15'000'000'000;
constexpr unsigned kChildBursts = 60;
}  // namespace

// A name is never used for two files by mistake: a client killed in here may have asked for things that are done
// late, on names that nobody uses any more.
void Worker::renew(unsigned f, Open* o, bool by_rename) {
  FileSlot& slot = cb_->files[f];
  uint32_t nobody = 0;
  if (!slot.owner.compare_exchange_strong(nobody, index_ + 1)) return;
  Current old = unpack(slot.current.load());
  unsigned free = kAreasPerFile;
  for (unsigned a = 0; a < kAreasPerFile && free == kAreasPerFile; ++a) {
    bool pinned = slot.current.load() != 0 && a == old.area;
    for (const ClientSlot& c : cb_->clients) pinned = pinned || c.pins[f].load() == f * kAreasPerFile + a + 1;
    if (!pinned) free = a;
  }
  if (free == kAreasPerFile) {
    slot.owner = 0;
    return;
  }
  Current next{cb_->incarnations.fetch_add(1) + 1, by_rename && slot.current.load() != 0 ? old.name : 0, free};
  uint32_t name = cb_->names.fetch_add(1) + 1;
  if (next.name == 0) next.name = name;
  std::string path = file_name(cb_->config, f, next.name), made = next.name == name ? path : file_name(cb_->config, f, name) + ".new";
  std::string old_path = file_name(cb_->config, f, old.name);
  uint64_t all = cb_->config.file_pages * kPage, size = all - below(all / 4) / 8 * 8;
  OpRecord* r = begin(by_rename ? OpKind::kRename : OpKind::kRecreate, f, old.incarnation, 0, ~uint64_t{0}, 0);
  try {
    unsigned area = area_of(f, next);
    Area& a = cb_->areas[area];
    std::memset(static_cast<void*>(cb_->pages(area)), 0, sizeof(PageState) * cb_->config.file_pages);
    std::unique_ptr<FsFile> file = fs_->open(made, true);
    file->truncate(size);
    FileId id = file->id();
    a.ino = id.ino;
    a.generation = id.generation;
    a.stamp_id = next.incarnation % kStampIds + 1;
    a.tainted = 0;
    a.size_active = 0;
    a.size_published = pack_size(a.size_version.load(), size);
    if (slot.current.load() != 0 && made != path) fs_->rename(made, path);
    slot.current = pack(next);
    slot.retire = 0;
    if (old.incarnation != 0 && made == path) fs_->unlink(old_path);
  } catch (const pmfs::Error& e) {
    r->failed = 1;
    tolerate(f, o, r->op, e.err(), e.message());
  }
  r->end_ns = now_ns();
  slot.owner = 0;
}

void Worker::fork_child() {
  unsigned slot = kMaxClients + index_;
  if (index_ >= kMaxClients || cb_->clients[slot].pid.load() != 0) return;
  OpRecord* r = begin(OpKind::kFork, 0, 0, 0, 0, 0);
  pid_t parent = getpid(), child = fork();
  if (child < 0) return;
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    child_main();
  }
  cb_->clients[slot].pid = child;
  uint64_t bound = now_ns() + kChildBoundNs;
  int status = 0;
  bool late = false;
  while (waitpid(child, &status, WNOHANG) == 0) {
    auto f = static_cast<unsigned>(below(cb_->config.files));
    if (open_[f].file) burst(f, open_[f]);
    me_->progress.fetch_add(1);
    usleep(100);
    if (!late && now_ns() > bound) {
      late = true;
      report_violation(cb_, slot, "stuck", fmt::format("the forked child {} of client {} does not end", child, index_));
      kill(child, SIGKILL);
    }
  }
  if (!late && !(WIFEXITED(status) && WEXITSTATUS(status) == 0) && cb_->stop.load() == 0)
    report_violation(cb_, slot, "client-died", fmt::format("the forked child {} of client {} died: wait status {:#x}",
                                                           child, index_, status));
  bury(cb_, slot);
  r->end_ns = now_ns();
}

// The mappings of the parent go on working here, at the same addresses, as those of a client of its own.
void Worker::child_main() {
  unsigned parent = index_;
  index_ = kMaxClients + parent;
  me_ = &cb_->clients[index_];
  me_->pid = getpid();
  rng_.seed(rng_() + static_cast<uint64_t>(getpid()));
  for (unsigned f = 0; f < cb_->config.files; ++f) me_->pins[f] = cb_->clients[parent].pins[f].load();
  for (unsigned f = 0; f < cb_->config.files; ++f) {
    publish_map(2 * f, open_[f].map.get(), 0, open_[f].id);
    publish_map(2 * f + 1, open_[f].alias.get(), open_[f].alias_page, open_[f].id);
  }
  try {
    for (unsigned i = 0; i < kChildBursts && cb_->stop.load() == 0; ++i) {
      auto f = static_cast<unsigned>(below(cb_->config.files));
      if (!open_[f].file) continue;
      burst(f, open_[f]);
      if (below(8) == 0) punch(f, open_[f], false);
      if (below(8) == 0) read(f, open_[f]);
    }
  } catch (const pmfs::Error& e) {
    tolerate(0, nullptr, OpKind::kFork, e.err(), e.message());
  }
  _exit(0);
}

}  // namespace torture
