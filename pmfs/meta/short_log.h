// The undo log of a short transaction, as nearly all of them are: some ten ranges, some allocations. What libpmemobj's own
// transaction takes for each snapshot (three copies, two fences, a tree of ranges) is here one copy and one fence.
//
//   add()     old bytes appended to the log, durable before it returns; then the caller may store to the range. Several that
//             are added together are durable together; a crash before that may leave any of them, and none was stored to
//   commit()  ranges and new objects flushed, fenced, then the commit word: by itself if nothing was allocated or freed, else
//             together with that by pmemobj_publish, whose redo log makes all of it one step
//   recover() at open, after libpmemobj's own: entries of a transaction that the commit word doesn't name are undone, the last one first
//
// A crash before the commit word is durable leaves the state before (undone at the next open, again if that crashes too); after
// it, the state after: entries that are not of the transaction behind the word's mean nothing. A transaction that does not fit
// throws LogFull and is run again as one of libpmemobj's (transaction::run).
//
// Not thread-safe: one transaction at a time, by the store's meta mutex.
#pragma once

#include <vector>

#include "pmfs/meta/layout.h"

namespace pmfs::meta {

class ShortLog {
 public:
  // The commit word: 48 bits of the sequence number of the last transaction that is over, 16 bits of a checksum of them.
  static uint64_t word_of(uint64_t sequence);

  // `base`: of the pool's mapping, of `pool_bytes`. All must outlive it. Throws Error(EUCLEAN): a damaged word.
  ShortLog(PMEMobjpool* pop, std::byte* base, uint64_t pool_bytes, ShortLogMedia* log, uint64_t* word, uint32_t seed);

  void recover();  // Throws Error(EUCLEAN): an entry whose place is not in the pool.

  void begin();
  void add(const void* p, size_t bytes);  // Throws LogFull. Repeats are cheap.
  // Between these add() leaves its entries to the fence of the second.
  void hold_fence() { held_ = true; }
  void fence();
  // Zeroed memory, as pmemobj_xreserve with these flags; 0: the pool is full.
  uint64_t allocate(size_t bytes, uint64_t type, uint64_t flags);
  void release(PMEMoid oid);
  bool commit();  // false: not done, abort() it
  void abort();   // as it was before begin()

 private:
  static constexpr size_t kLine = 64, kMostBytes = 2048, kMostRanges = 64;
  // With two words each they fit the part of libpmemobj's redo log that need not be allocated, so publishing can't fail.
  static constexpr size_t kMostActions = 16;
  struct Range {
    std::byte* begin;
    size_t bytes;
    size_t entry;  // offset in the log; kNone: a new object's
  };
  static constexpr size_t kNone = SIZE_MAX;
  static size_t entry_bytes(size_t bytes) { return (offsetof(ShortLogEntry, data) + bytes + kLine - 1) / kLine * kLine; }
  uint32_t checksum(const ShortLogEntry& e) const;
  void set_word(uint64_t sequence);
  void need_action() const;

  PMEMobjpool* const pop_;
  std::byte* const base_;
  const uint64_t pool_bytes_;
  ShortLogMedia* const log_;
  uint64_t* const word_;
  const uint32_t seed_;
  uint64_t sequence_;  // of the transaction that is running, or will be
  size_t used_ = 0, fenced_ = 0;  // bytes of the log
  bool held_ = false;
  std::vector<Range> ranges_;
  std::vector<pobj_action> actions_;
  std::vector<uint64_t> made_;  // per action: the object it allocates, or 0
};

}  // namespace pmfs::meta
