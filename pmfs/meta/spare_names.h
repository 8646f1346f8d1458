// Places of names that went, for the next names: a list on the media. To take one or give one back changes the root, which a
// transaction that makes or removes a name changes anyway, and 16 bytes of the place; libpmemobj would change its bitmap of the run, by a
// redo log of its own, at the price of half a transaction.
//
// Not thread-safe (meta mutex). Members that change something must be called in a transaction.
#pragma once

#include <string>
#include <vector>

#include "pmfs/meta/media.h"

namespace pmfs::meta {

class SpareNames {
 public:
  static constexpr uint64_t kMost = 1024;  // on the list; more goes back to the pool

  explicit SpareNames(Media& m) : m_(m) {}

  // Room for a Name of so many characters, contents undefined, snapshotted if it is not new. EUCLEAN: the list is damaged.
  persistent_ptr<Name> take(size_t length);
  void give(persistent_ptr<Name> name);
  // What take() and give() are going to store to, but for the root object.
  void snapshot_next(size_t length) const;
  void snapshot(persistent_ptr<Name> name) const;

  // Appends a sentence per damage. Safe to call on a damaged list.
  void check(uint64_t pool_bytes, std::vector<std::string>* findings) const;
  uint64_t seals() const;  // of all, added up; of a list that check() has found in order

 private:
  SpareName* next(size_t length) const;  // nullptr: a new one is needed
  Media& m_;
};

}  // namespace pmfs::meta
