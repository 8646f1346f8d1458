#include "lib/preload_api.h"

#include <sys/mman.h>

#include <map>

#include "lib/c_api.h"
#include "lib/pieces.h"
#include "lib/session.h"
#include "pmfs/pmfs.h"

using namespace pmfs::c_api;

namespace {

// The volumes in use, by directory. Inside a ForkGate::Pass, so that a fork never meets it locked; connecting under the
// lock, so that each is connected to once.
struct Volumes {
  pmfs::Mutex mutex{pmfs::LockRank::kNamespace, "preload volumes"};
  std::map<std::string, pmfs::Volume> by_dir GUARDED_BY(mutex);
};

pmfs::Volume volume(const char* dir) {
  static Volumes* all = new Volumes;
  pmfs::ForkGate::Pass pass;
  pmfs::MutexLock l(all->mutex);
  const auto it = all->by_dir.find(dir);
  if (it != all->by_dir.end() && !it->second.session().closed()) return it->second;
  return all->by_dir.insert_or_assign(dir, pmfs::Volume(dir)).first->second;
}

}  // namespace

extern "C" {

void* pmfs_preload_map(const char* dir, uint64_t ino, uint64_t generation, int open_flags, void* addr, size_t length,
                       int prot, int flags, off_t offset) {
  return guarded(MAP_FAILED, [&]() -> void* {
    check_map_flags(flags);
    pmfs::Volume v = volume(dir);
    pmfs::File f = v.open_inode(ino, generation, open_flags);
    return map(f, addr, length, prot, flags, offset);
  });
}

int pmfs_preload_mapped(const void* addr, size_t length) {
  return guarded(0, [&] { return length != 0 && pmfs::any_mapped(addr, length) ? 1 : 0; });
}

int pmfs_preload_release(void* addr, size_t length) {
  return guarded(-1, [&] {
    pmfs::release_range(addr, length);
    return 0;
  });
}

}  // extern "C"
