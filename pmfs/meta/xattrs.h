// The extended attributes of one inode: a B+tree by hash of the name, keyed as a directory is. A value that does not
// fit beside its name goes on in pages.
//
// Not thread-safe (meta mutex). Members that change something must be called in a transaction, with the second cache
// line of the inode snapshotted.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pmfs/meta/btree.h"
#include "pmfs/meta/media.h"

namespace pmfs::meta {

class Xattrs {
 public:
  Xattrs(Media& m, InodeMedia* inode) : m_(m), inode_(inode), tree_(m.pop, &inode->xattrs, inode->ino) {}

  bool has(std::string_view name) const { return find(name).has_value(); }
  std::optional<std::vector<std::byte>> get(std::string_view name) const;
  std::vector<std::string> names() const;
  // Bytes of a list of all names, with `name` among them.
  uint64_t list_bytes_with(std::string_view name) const;
  void set(std::string_view name, std::span<const std::byte> value);  // ENOSPC: too many names with this hash
  bool erase(std::string_view name);                                  // false: there is none

  // Freeing all, a bounded number at a time: few() says that one free_some() is enough.
  static constexpr uint64_t kSome = 32;
  bool few() const { return tree_.size() <= kSome; }
  void free_some();

  // A sentence per damage. Safe to call on damaged ones.
  bool check(const std::string& who, std::vector<std::string>* findings) const;

 private:
  uint64_t hash_of(std::string_view name) const;
  XattrMedia* media(const Record& r) const;  // EUCLEAN if its lengths can't be
  static uint64_t record_value(std::string_view name, std::span<const std::byte> value);  // of its index record
  static std::string_view name_of(const XattrMedia* x);
  std::optional<Record> find(std::string_view name) const;
  uint64_t make(std::string_view name, std::span<const std::byte> value);
  void free(const Record& r);

  Media& m_;
  InodeMedia* inode_;
  BTree tree_;
};

}  // namespace pmfs::meta
