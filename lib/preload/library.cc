#include "lib/preload/library.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <atomic>

#include "lib/preload/log.h"

namespace pmfs::preload {

thread_local constinit unsigned Inside::depth = 0;

namespace {

constexpr char kName[] = "libpmfs.so.0";

Library g_library;
std::atomic<const Library*> g_loaded{nullptr};
pthread_once_t g_once = PTHREAD_ONCE_INIT;

void* open_library() {
  Dl_info self{};
  if (dladdr(reinterpret_cast<void*>(&open_library), &self) != 0 && self.dli_fname != nullptr) {
    const char* slash = strrchr(self.dli_fname, '/');
    char path[PATH_MAX];
    if (slash != nullptr && snprintf(path, sizeof path, "%.*s/%s", static_cast<int>(slash - self.dli_fname), self.dli_fname,
                                     kName) < static_cast<int>(sizeof path)) {
      if (void* h = dlopen(path, RTLD_NOW | RTLD_LOCAL)) return h;
    }
  }
  return dlopen(kName, RTLD_NOW | RTLD_LOCAL);
}

template <class F>
bool find(void* from, const char* name, F* function) {
  *function = reinterpret_cast<F>(dlsym(from, name));
  if (*function == nullptr) warn("%s lacks %s: it is of another version", kName, name);
  return *function != nullptr;
}

void load() {
  const Inside inside;
  void* h = open_library();
  if (h == nullptr) {
    warn("files of pmfs can't be mapped: %s", dlerror());
    return;
  }
  Library& l = g_library;
  if (find(h, "pmfs_preload_map", &l.map) && find(h, "pmfs_preload_mapped", &l.mapped) &&
      find(h, "pmfs_preload_release", &l.release) && find(h, "pmfs_mprotect", &l.mprotect) &&
      find(h, "pmfs_mremap", &l.mremap) && find(h, "pmfs_msync", &l.msync) && find(h, "pmfs_madvise", &l.madvise) &&
      find(h, "pmfs_strerror", &l.strerror)) {
    g_loaded.store(&g_library, std::memory_order_release);
  }
}

}  // namespace

const Library* library() {
  if (const Library* l = loaded_library()) return l;
  pthread_once(&g_once, load);
  return loaded_library();
}

const Library* loaded_library() { return g_loaded.load(std::memory_order_acquire); }

}  // namespace pmfs::preload
