#include "pmfs/meta/xattrs.h"

#include <algorithm>
#include <cstring>

#include "pmfs/meta/directory.h"
#include "pmfs/meta/hash.h"
#include "pmfs/meta/store.h"

namespace pmfs::meta {

XattrMedia* Xattrs::media(const Record& r) const {
  XattrMedia* x = m_.pop.direct(persistent_ptr<XattrMedia>{r.a});
  if (x->name_bytes > kMaxXattrName || x->value_bytes > kMaxXattrValue)
    fail(EUCLEAN, "the metadata is damaged: the attribute of entry {:#x}; see pmfs fsck", r.key);
  return x;
}

std::string_view Xattrs::name_of(const XattrMedia* x) {
  return {reinterpret_cast<const char*>(x) + offsetof(XattrMedia, bytes), x->name_bytes};
}

uint64_t Xattrs::record_value(std::string_view name, std::span<const std::byte> value) {
  const uint32_t sum = crc32c(value.data(), value.size(), crc32c(name.data(), name.size()));
  return uint64_t{sum} << 32 | value.size();
}

uint64_t Xattrs::hash_of(std::string_view name) const { return Directory::hash_of(m_, name); }

std::optional<Record> Xattrs::find(std::string_view name) const {
  uint64_t h = hash_of(name);
  std::optional<Record> found;
  tree_.visit(h, [&](const Record& r) {
    if (r.key >= h + Directory::kSequence) return false;
    if (name_of(media(r)) != name) return true;
    found = r;
    return false;
  });
  return found;
}

std::optional<std::vector<std::byte>> Xattrs::get(std::string_view name) const {
  auto r = find(name);
  if (!r) return std::nullopt;
  const XattrMedia* x = media(*r);
  std::vector<std::byte> out(x->value_bytes);
  const std::byte* inline_value = reinterpret_cast<const std::byte*>(x) + offsetof(XattrMedia, bytes) + x->name_bytes;
  size_t done = std::min<size_t>(out.size(), XattrMedia::kBytes - x->name_bytes);
  if (done > 0) std::memcpy(out.data(), inline_value, done);
  for (auto page = x->more; page && done < out.size(); page = m_.pop.direct(page)->next) {
    size_t n = std::min(out.size() - done, XattrPage::kBytes);
    std::memcpy(out.data() + done, m_.pop.direct(page)->bytes, n);
    done += n;
  }
  if (record_value(name, out) != r->b)
    fail(EIO, "inode {}: the value of attribute {} is damaged; see pmfs fsck", inode_->ino, name);
  return out;
}

std::vector<std::string> Xattrs::names() const {
  std::vector<std::string> out;
  tree_.visit(0, [&](const Record& r) {
    out.emplace_back(name_of(media(r)));
    return true;
  });
  return out;
}

uint64_t Xattrs::list_bytes_with(std::string_view name) const {
  return inode_->xattr_list_bytes + (has(name) ? 0 : name.size() + 1);
}

uint64_t Xattrs::make(std::string_view name, std::span<const std::byte> value) {
  size_t here = std::min(value.size(), XattrMedia::kBytes - name.size());
  auto ptr = make_persistent<XattrMedia>(
      std::max(sizeof(XattrMedia), offsetof(XattrMedia, bytes) + name.size() + here));
  XattrMedia* x = m_.pop.direct(ptr);
  x->name_bytes = static_cast<uint16_t>(name.size());
  x->value_bytes = static_cast<uint32_t>(value.size());
  std::byte* to = reinterpret_cast<std::byte*>(x) + offsetof(XattrMedia, bytes);
  std::memcpy(to, name.data(), name.size());
  if (here > 0) std::memcpy(to + name.size(), value.data(), here);
  persistent_ptr<XattrPage>* link = &x->more;
  for (size_t done = here; done < value.size();) {
    *link = make_persistent<XattrPage>();
    XattrPage* page = m_.pop.direct(*link);
    size_t n = std::min(value.size() - done, XattrPage::kBytes);
    std::memcpy(page->bytes, value.data() + done, n);
    done += n;
    link = &page->next;
  }
  return ptr.off;
}

void Xattrs::free(const Record& r) {
  for (auto page = media(r)->more; page;) {
    auto next = m_.pop.direct(page)->next;
    delete_persistent(m_.pop, page);
    page = next;
  }
  delete_persistent(m_.pop, persistent_ptr<XattrMedia>{r.a});
}

void Xattrs::set(std::string_view name, std::span<const std::byte> value) {
  if (auto old = find(name)) {
    tree_.replace(old->key, {old->key, make(name, value), record_value(name, value)});
    free(*old);
    return;
  }
  uint64_t h = hash_of(name), key = h;
  tree_.visit(h, [&](const Record& r) {  // the first gap in the sequence numbers
    if (r.key != key) return false;
    ++key;
    return true;
  });
  if (key == h + Directory::kSequence) {
    fail(ENOSPC, "{}: {} attributes with this hash, there is no room for more", name, Directory::kSequence);
  }
  tree_.insert({key, make(name, value), record_value(name, value)});
  inode_->xattr_list_bytes += static_cast<uint32_t>(name.size() + 1);
}

bool Xattrs::erase(std::string_view name) {
  auto r = find(name);
  if (!r) return false;
  tree_.erase(r->key);
  free(*r);
  inode_->xattr_list_bytes -= static_cast<uint32_t>(name.size() + 1);
  return true;
}

void Xattrs::free_some() {
  for (uint64_t n = 0; n < kSome && !tree_.empty(); ++n) {
    Record r = *tree_.ceil(0);
    inode_->xattr_list_bytes -= media(r)->name_bytes + 1u;
    tree_.erase(r.key);
    free(r);
  }
}

bool Xattrs::check(const std::string& who, std::vector<std::string>* findings) const {
  const uint64_t pool = m_.root->sb.pool_bytes;
  auto inside = [&](uint64_t off, uint64_t bytes) { return off != 0 && off % 8 == 0 && off < pool && bytes <= pool - off; };
  if (!tree_.check(who + ": attributes", pool, findings)) return false;
  uint64_t list = 0;
  bool ok = true;
  tree_.visit(0, [&](const Record& r) {
    auto damaged = [&] {
      findings->push_back(fmt::format("{}: the attribute of entry {:#x} is damaged", who, r.key));
      ok = false;
      return true;
    };
    if (!inside(r.a, sizeof(XattrMedia))) return damaged();
    const XattrMedia* x = m_.pop.direct(persistent_ptr<XattrMedia>{r.a});
    if (x->name_bytes == 0 || x->name_bytes > kMaxXattrName || x->value_bytes > kMaxXattrValue) return damaged();
    size_t here = std::min<size_t>(x->value_bytes, XattrMedia::kBytes - x->name_bytes), left = x->value_bytes - here;
    if (!inside(r.a, offsetof(XattrMedia, bytes) + x->name_bytes + here)) return damaged();
    if (hash_of(name_of(x)) != r.key / Directory::kSequence * Directory::kSequence) return damaged();
    uint32_t sum = crc32c(x->bytes, x->name_bytes + here);
    auto page = x->more;
    for (; left > 0; page = m_.pop.direct(page)->next) {
      if (!inside(page.off, sizeof(XattrPage))) return damaged();
      const size_t n = std::min(left, XattrPage::kBytes);
      sum = crc32c(m_.pop.direct(page)->bytes, n, sum);
      left -= n;
    }
    if (page || r.b != (uint64_t{sum} << 32 | x->value_bytes)) return damaged();
    list += x->name_bytes + 1u;
    return true;
  });
  if (ok && list != inode_->xattr_list_bytes) {
    findings->push_back(fmt::format("{}: the names of its attributes have {} bytes, but {} counted", who, list,
                                    inode_->xattr_list_bytes));
    ok = false;
  }
  return ok;
}

}  // namespace pmfs::meta
