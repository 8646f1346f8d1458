// Dispatcher: attributes, links, extended attributes.
#include <cstring>

#include "pmfs/base/error.h"
#include "pmfs/server/dispatch.h"

namespace pmfs::server {

using namespace proto;

Dispatcher::Subject Dispatcher::subject(Call& c, FollowLast last) {
  if (c.path1.empty()) {
    InodeRef file = c.session.file(c.r.handle)->inode;
    return {file->ino, file};
  }
  MountedVolume::Found f = volume_.find(c.path1, last);
  if (!f.file) return {f.ino, {}};
  return {f.ino, InodeRef(volume_, std::move(f.file))};
}

void Dispatcher::set_attr(Call& c) {
  const Request& r = c.r;
  constexpr uint64_t kKnown = kNoFollow | kAttrMode | kAttrUid | kAttrGid | kAttrAtime | kAttrMtime;
  if (r.a0 & ~kKnown) fail(EPROTO, "unknown attribute bits {:#x}", r.a0);
  meta::AttrChange change;
  static_assert(kTimeNow == meta::AttrChange::kNow);
  if (r.a0 & kAttrMode) change.mode = static_cast<uint32_t>(r.a1);
  if (r.a0 & kAttrUid) change.uid = static_cast<uint32_t>(r.a2);
  if (r.a0 & kAttrGid) change.gid = static_cast<uint32_t>(r.a2 >> 32);
  if (r.a0 & kAttrAtime) change.atime_ns = static_cast<int64_t>(r.a3);
  if (r.a0 & kAttrMtime) change.mtime_ns = static_cast<int64_t>(r.a4);
  Subject s = subject(c, r.a0 & kNoFollow ? FollowLast::kNo : FollowLast::kYes);
  volume_.store().set_attr(s.ino, change, c.session.who);
}

void Dispatcher::link(Call& c) {
  if (c.r.a0 & ~kFollow) fail(EPROTO, "unknown link flags {:#x}", c.r.a0);
  volume_.link(c.path1, c.path2, c.r.a0 & kFollow ? FollowLast::kYes : FollowLast::kNo, c.session.who);
}

void Dispatcher::symlink(Call& c) { volume_.symlink(c.path2, c.path1, c.session.who); }

void Dispatcher::readlink(Call& c) {
  std::string target = volume_.readlink(c.path1);
  std::memcpy(c.bounce, target.data(), target.size());
  c.reply.v0 = target.size();
}

void Dispatcher::xattr(Call& c) {
  const Request& r = c.r;
  const Op op = static_cast<Op>(r.op);
  if (r.path2_len != 0) fail(EPROTO, "an attribute request with a second path");
  if (r.a3 & ~kNoFollow) fail(EPROTO, "unknown attribute flags {:#x}", r.a3);
  if (r.a0 > meta::kMaxXattrName) fail(ERANGE, "an attribute name of {} bytes; at most {}", r.a0, meta::kMaxXattrName);
  static_assert(kMaxPath + meta::kMaxXattrName + meta::kMaxXattrValue <= kBounceBytes);
  // Copied before anything is looked at: the client may change it under our hands.
  const std::byte* at = c.bounce + r.path1_len;
  const std::string name(reinterpret_cast<const char*>(at), r.a0);
  Subject s = subject(c, r.a3 & kNoFollow ? FollowLast::kNo : FollowLast::kYes);
  meta::Store& store = volume_.store();
  const meta::Credentials& who = c.session.who;
  if (op == Op::kSetXattr) {
    if (r.a1 > meta::kMaxXattrValue) fail(E2BIG, "{}: a value of {} bytes; at most {}", name, r.a1, meta::kMaxXattrValue);
    if (r.a2 & ~uint64_t{meta::kXattrCreate | meta::kXattrReplace}) fail(EINVAL, "{}: unknown flags {:#x}", name, r.a2);
    const std::vector<std::byte> value(at + r.a0, at + r.a0 + r.a1);
    return store.set_xattr(s.ino, name, value, static_cast<uint32_t>(r.a2), who);
  }
  if (op == Op::kRemoveXattr) return store.remove_xattr(s.ino, name, who);
  if (op == Op::kGetXattr) {
    const auto value = store.get_xattr(s.ino, name, who);
    if (!value.empty()) std::memcpy(c.bounce, value.data(), value.size());
    c.reply.v0 = value.size();
    return;
  }
  uint64_t bytes = 0;
  for (const std::string& n : store.list_xattrs(s.ino, who)) {
    std::memcpy(c.bounce + bytes, n.c_str(), n.size() + 1);
    bytes += n.size() + 1;
  }
  c.reply.v0 = bytes;
}

void Dispatcher::set_quota(Call& c) {
  const Request& r = c.r;
  require_admin(c);
  if ((r.a0 != 1 && r.a0 != 2) || r.a1 > UINT32_MAX) fail(EINVAL, "quota: kind {} of id {} is unknown", r.a0, r.a1);
  volume_.set_quota(static_cast<meta::QuotaKind>(r.a0), static_cast<uint32_t>(r.a1), r.a2, r.a3);
}

void Dispatcher::quotas(Call& c) {
  constexpr size_t kMost = kBounceBytes / sizeof(WireQuota);
  const auto all = volume_.store().quotas();
  uint64_t n = 0;
  for (uint64_t k = c.r.a0; k < all.size() && n < kMost; ++k, ++n) {
    const meta::Quota& q = all[k];
    const WireQuota w{static_cast<uint32_t>(q.kind), q.id, q.blocks, q.inodes, q.block_limit, q.inode_limit};
    std::memcpy(c.bounce + n * sizeof w, &w, sizeof w);
  }
  c.reply.v0 = n;
  c.reply.v1 = c.r.a0 < all.size() && all.size() - c.r.a0 > n ? 1 : 0;
}

void Dispatcher::project(Call& c) {
  const Request& r = c.r;
  if (r.a0 > UINT32_MAX || r.a1 > 1) fail(EINVAL, "project {} is impossible", r.a0);
  Subject s = subject(c, FollowLast::kYes);
  if (static_cast<Op>(r.op) == Op::kSetProject)
    return volume_.store().set_project(s.ino, {static_cast<uint32_t>(r.a0), r.a1 == 1}, c.session.who);
  const meta::Project p = volume_.store().project(s.ino);
  c.reply.v0 = p.id;
  c.reply.v1 = p.inherit ? 1 : 0;
}

}  // namespace pmfs::server
