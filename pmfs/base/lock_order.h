// Lock ranks and the run-time checker (what lockdep is to the kernel). A thread may only acquire a lock of a
// rank higher than every rank it holds, except where the rank allows several of a kind in key order.
// Checked in debug builds (PMFS_DEBUG_LOCKS); the calls compile to nothing otherwise.
//
// A violation calls the handler (default: print both locks and the held stack to stderr, abort). Tests
// install their own handler to show that the checker sees what it should.
#pragma once

#include <cstdint>

namespace pmfs {

// Order of acquisition, outermost first. Gaps leave room.
enum class LockRank : uint16_t {
  kServer = 100,       // server, fault: what workers and pagers serve
  kNamespace = 200,    // fs: directory tree
  kInodeOp = 300,      // fs: per-inode operation mutex, several in ino order (key)
  kRange = 400,        // exclusion: range lock, several in (ino, first) order (key)
  kSchemeLock = 450,   // exclusion: whole-inode locks of other schemes
  kEntry = 500,        // exclusion: lock entries, inodes in ino order; a second one of an inode only by try
  kInodeAlloc = 600,   // fs: per-inode placement windows
  kMeta = 700,         // meta: every transaction
  kAllocator = 720,    // meta: volatile block bitmap
  kSessionFiles = 740,  // server: a client's open files
  kInodeCache = 750,   // fs: ino -> Inode table (leaf: nothing is called with it held)
  kSessionList = 760,  // server: the table of sessions (leaf but for what follows)
  kSessionMaps = 800,  // fault: a client's mapping table
  kVma = 810,          // fault: what VMA a client has at each page of one mapping
  kAgent = 820,        // fault/server: a client's queue of VMA commands
  kRegion = 900,       // region: known-zero bitmap
  kCancel = 950,       // exclusion: a cancel token; the range lock it cancels is taken under it
  kLeaf = 1000,        // anything under which nothing else is acquired
};

namespace lock_order {

#ifdef PMFS_DEBUG_LOCKS
// (`key`, `minor`) orders locks of equal rank (ino, pgoff); equal rank is allowed only with a strictly greater
// pair. `lock` identifies the lock; `name` must be a literal. A try-acquire passes `may_block` = false: it can't
// deadlock, so its order is not checked, but it is recorded as held.
void acquired(const void* lock, LockRank rank, uint64_t key, const char* name, bool may_block, uint64_t minor = 0);
// The check alone, for a lock that is recorded only once it is held: call it before going to sleep.
void about_to_block(const void* lock, LockRank rank, uint64_t key, const char* name, uint64_t minor = 0);
void released(const void* lock);
bool held(const void* lock);
bool holds_any(LockRank rank);
void assert_none_held(const char* where);  // before waiting for a client
using Handler = void (*)(const char* message);
Handler set_handler(Handler h);  // returns the previous one
#else
inline void acquired(const void*, LockRank, uint64_t, const char*, bool, uint64_t = 0) {}
inline void about_to_block(const void*, LockRank, uint64_t, const char*, uint64_t = 0) {}
inline void released(const void*) {}
inline void assert_none_held(const char*) {}
#endif

}  // namespace lock_order
}  // namespace pmfs
