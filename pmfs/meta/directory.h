// The index of one directory: a B+tree of name hashes. Key: the upper part of the name's hash, and in the
// lowest 8 bits a number that tells names with equal hashes apart. An entry keeps its key as long as it
// lives, so that the key serves as the cookie of list().
//
// Not thread-safe (meta mutex). Members that change something must be called in a transaction.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pmfs/meta/btree.h"
#include "pmfs/meta/media.h"
#include "pmfs/meta/spare_names.h"

namespace pmfs::meta {

class Directory {
 public:
  struct Entry {
    uint64_t key;
    Ino ino;
  };

  Directory(Media& m, InodeMedia* dir) : m_(m), tree_(m.pop, &dir->map, dir->ino), spare_(m) {}

  bool empty() const { return tree_.empty(); }
  std::optional<Entry> find(std::string_view name) const;
  void insert(std::string_view name, Ino ino);  // must not be there
  void set(const Entry& e, Ino ino);            // the name means another inode now
  void erase(const Entry& e);
  // What insert() and erase() are going to store to, as far as it is known beforehand: one fence for all of a transaction's.
  void snapshot_insert(std::string_view name) const;
  void snapshot_erase(const Entry& e) const;
  // fn(key, name, ino) -> bool, for keys > `cookie`.
  template <class F>
  void visit(uint64_t cookie, F&& fn) const {
    tree_.visit(cookie + 1, [&](const Record& r) { return fn(r.key, name_of(r), Ino{r.b}); });
  }

  static constexpr uint64_t kSequence = 256;
  // Lowest 8 bits 0; neither 0 nor above INT64_MAX. Extended attributes are keyed alike.
  static uint64_t hash_of(const Media& m, std::string_view name);
  uint64_t hash_of(std::string_view name) const { return hash_of(m_, name); }

 private:
  std::string_view name_of(const Record& r) const;
  Media& m_;
  BTree tree_;
  SpareNames spare_;
};

}  // namespace pmfs::meta
