#include "pmfs/meta/directory.h"

#include <algorithm>
#include <cstring>

#include "pmfs/meta/hash.h"

namespace pmfs::meta {

uint64_t Directory::hash_of(const Media& m, std::string_view name) {
  const SuperblockMedia& sb = m.root->sb;
  uint64_t h = siphash(sb.hash_key, name) >> (64 - sb.hash_bits);
  return std::max<uint64_t>(h, 1) * kSequence;
}

std::string_view Directory::name_of(const Record& r) const {
  const Name* n = m_.pop.direct(persistent_ptr<Name>{r.a});
  if (n->length > kMaxName) fail(EUCLEAN, "the metadata is damaged: the name of entry {:#x}; see pmfs fsck", r.key);
  return {reinterpret_cast<const char*>(n) + offsetof(Name, bytes), n->length};
}

std::optional<Directory::Entry> Directory::find(std::string_view name) const {
  uint64_t h = hash_of(name);
  std::optional<Entry> found;
  tree_.visit(h, [&](const Record& r) {
    if (r.key >= h + kSequence) return false;
    if (name_of(r) != name) return true;
    found = Entry{r.key, Ino{r.b}};
    return false;
  });
  return found;
}

void Directory::insert(std::string_view name, Ino ino) {
  uint64_t h = hash_of(name), key = h;
  tree_.visit(h, [&](const Record& r) {  // the first gap in the sequence numbers
    if (r.key != key) return false;
    ++key;
    return true;
  });
  if (key == h + kSequence) {
    fail(ENOSPC, "{}: {} names with this hash are in the directory, there is no room for more", name, kSequence);
  }
  auto ptr = spare_.take(name.size());
  Name* n = m_.pop.direct(ptr);
  n->length = static_cast<uint16_t>(name.size());
  std::memcpy(reinterpret_cast<char*>(n) + offsetof(Name, bytes), name.data(), name.size());
  tree_.insert({key, ptr.off, to_u64(ino)});
}

void Directory::set(const Entry& e, Ino ino) {
  auto r = tree_.find(e.key);
  if (!r) fail(EUCLEAN, "directory entry {:#x} vanished", e.key);
  r->b = to_u64(ino);
  tree_.replace(e.key, *r);
}

void Directory::erase(const Entry& e) {
  auto r = tree_.find(e.key);
  if (!r) fail(EUCLEAN, "directory entry {:#x} vanished", e.key);
  tree_.erase(e.key);
  spare_.give({r->a});
}

void Directory::snapshot_insert(std::string_view name) const {
  spare_.snapshot_next(name.size());
  tree_.snapshot_insert(hash_of(name));
}

void Directory::snapshot_erase(const Entry& e) const {
  if (auto r = tree_.find(e.key)) spare_.snapshot({r->a});
  tree_.snapshot_erase(e.key);
}

}  // namespace pmfs::meta
